%% Erlang: a gen_server answers calls; in the tick it and its asker have priority high.
-module(bench_peer).
-behaviour(gen_server).
-export([main/0, init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(CLIENTS, 100).
-define(SENDERS, 1000).
-define(BURST, 10).
-define(BUSY, 50).
-define(STEP, 200000).
-define(PERIOD, 5000000).
-define(TIMEOUT, 1000).

init(Priority) -> process_flag(priority, Priority), {ok, none}.
handle_call(Value, _From, State) -> {reply, Value, State}.
handle_cast(_Message, State) -> {noreply, State}.
handle_info(_Message, State) -> {noreply, State}.

main() ->
    [Scenario, Text] = init:get_plain_arguments(),
    Length = round(number(Text) * 1.0e9),
    report(Scenario, run(Scenario, Length)),
    halt(0).

number(Text) ->
    case string:to_float(Text) of
        {error, no_float} -> list_to_integer(Text);
        {Value, _} -> Value
    end.

clock() -> erlang:monotonic_time(nanosecond).

run("round_trip", Length) -> round_trips(1, infinity, Length);
run("round_trip_deadline", Length) -> round_trips(1, ?TIMEOUT, Length);
run("round_trip_100", Length) -> round_trips(?CLIENTS, infinity, Length);
run("fan_in", Length) -> fan_in(Length);
run("tick", Length) -> tick(Length).

%% {Waits, Operations, Cpu, Wall, Missed}; runtime counts milliseconds of all schedulers.
measured(Length, Work) ->
    {Cpu, _} = erlang:statistics(runtime),
    Began = clock(),
    {Waits, Operations, Missed} = Work(Began, Began + Length),
    Wall = clock() - Began,
    {After, _} = erlang:statistics(runtime),
    {Waits, Operations, (After - Cpu) / 1.0e3, Wall / 1.0e9, Missed}.

round_trips(Clients, Timeout, Length) ->
    {ok, Server} = gen_server:start(?MODULE, normal, []),
    Self = self(),
    measured(Length, fun(Began, Until) ->
        Crowd = [spawn_monitor(fun() ->
            Self ! {waits, self(), client(Server, Timeout, Began, Until, [])}
        end) || _ <- lists:seq(1, Clients)],
        Waits = lists:append([receive {waits, Client, Each} -> Each;
            {'DOWN', Reference, _, _, Reason} when Reason =/= normal -> exit(Reason) end
            || {Client, Reference} <- Crowd]),
        {Waits, length(Waits), none}
    end).

client(Server, Timeout, Began, Until, Waits) when Began < Until ->
    1 = gen_server:call(Server, 1, Timeout),
    Ended = clock(),
    client(Server, Timeout, Ended, Until, [Ended - Began | Waits]);
client(_Server, _Timeout, _Began, _Until, Waits) -> Waits.

fan_in(Length) ->
    Self = self(),
    Senders = [spawn_link(fun() -> sender(Self, Number) end) || Number <- lists:seq(1, ?SENDERS)],
    measured(Length, fun(_Began, Until) -> bursts(Senders, Until, [], 0) end).

sender(Receiver, Number) ->
    receive start ->
        [Receiver ! {message, stamped(Number, Nth)} || Nth <- lists:seq(0, ?BURST - 1)],
        sender(Receiver, Number)
    end.

%% One in ten messages carries its time, as everywhere.
stamped(Number, Nth) when Number rem ?BURST =:= Nth -> clock();
stamped(_Number, _Nth) -> none.

bursts(Senders, Until, Waits, Operations) ->
    case clock() < Until of
        true ->
            [Sender ! start || Sender <- Senders],
            Count = ?SENDERS * ?BURST,
            bursts(Senders, Until, taken(Count, Waits), Operations + Count);
        false -> {Waits, Operations, none}
    end.

taken(0, Waits) -> Waits;
taken(Left, Waits) ->
    receive
        {message, none} -> taken(Left - 1, Waits);
        {message, Sent} -> taken(Left - 1, [clock() - Sent | Waits])
    end.

tick(Length) ->
    {ok, Server} = gen_server:start(?MODULE, high, []),
    [spawn(fun busy/0) || _ <- lists:seq(1, ?BUSY)],
    process_flag(priority, high),
    measured(Length, fun(Began, Until) -> ticks(Server, Began, Until, 0, 0, 0, []) end).

ticks(Server, Start, Until, Index, Instants, InTime, Waits) ->
    Next = max(Index, (clock() - Start) div ?PERIOD) + 1,
    Due = Start + Next * ?PERIOD,
    case Due < Until of
        true ->
            until(Due),
            1 = gen_server:call(Server, 1, infinity),
            Wait = clock() - Due,
            Met = case Wait =< ?PERIOD of true -> 1; false -> 0 end,
            ticks(Server, Start, Until, Next, Next, InTime + Met, [Wait | Waits]);
        false -> {Waits, length(Waits), 1 - InTime / max(Instants, 1)}
    end.

%% An absolute timer counts whole milliseconds, and fires no sooner than the one it names.
until(Due) ->
    erlang:send_after(-(-Due div 1000000), self(), tick, [{abs, true}]),
    receive tick -> ok end.

busy() -> burn(clock() + ?STEP), erlang:yield(), busy().
burn(Until) -> case clock() < Until of true -> burn(Until); false -> ok end.

report(Scenario, {Unsorted, Operations, Cpu, Wall, Missed}) ->
    Waits = list_to_tuple(lists:sort(Unsorted)),
    io:format("{\"peer\": \"erlang\", \"scenario\": \"~s\", \"operations\": ~b, \"cpu_seconds\": ~.6f, "
              "\"wall_seconds\": ~.6f, \"p50_us\": ~s, \"p99_us\": ~s~s}~n",
              [Scenario, Operations, Cpu, Wall, quantile(Waits, 0.50), quantile(Waits, 0.99), missed(Missed)]).

missed(none) -> "";
missed(Part) -> io_lib:format(", \"missed\": ~.6f", [float(Part)]).

quantile({}, _Fraction) -> "null";
quantile(Waits, Fraction) ->
    At = min(trunc(tuple_size(Waits) * Fraction), tuple_size(Waits) - 1),
    io_lib:format("~.3f", [element(At + 1, Waits) / 1.0e3]).
