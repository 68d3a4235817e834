// Go channels: a goroutine serves, each request carries a fresh channel for its reply.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	clients = 100
	senders = 1000
	burst   = 10
	busy    = 50
	step    = 200 * time.Microsecond
	period  = 5 * time.Millisecond
	timeout = time.Second
)

type request struct {
	value int
	reply chan int
}

type window struct {
	scenario   string
	length     time.Duration
	began      time.Time
	until      time.Time
	cpu        float64
	wall       float64
	waits      []time.Duration
	operations int
	missed     float64
	lock       sync.Mutex
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return float64(used.Utime.Sec+used.Stime.Sec) + float64(used.Utime.Usec+used.Stime.Usec)/1e6
}

func (w *window) open() {
	w.cpu = cpuSeconds()
	w.began = time.Now()
	w.until = w.began.Add(w.length)
}

func (w *window) shut() {
	w.wall = time.Since(w.began).Seconds()
	w.cpu = cpuSeconds() - w.cpu
}

func (w *window) took(waits []time.Duration) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.waits = append(w.waits, waits...)
	w.operations += len(waits)
}

func (w *window) quantile(fraction float64) any {
	if len(w.waits) == 0 {
		return nil
	}
	at := int(float64(len(w.waits)) * fraction)
	if at >= len(w.waits) {
		at = len(w.waits) - 1
	}
	return float64(w.waits[at].Nanoseconds()) / 1e3
}

func (w *window) report() {
	sort.Slice(w.waits, func(i, j int) bool { return w.waits[i] < w.waits[j] })
	line := map[string]any{
		"peer": "go", "scenario": w.scenario, "operations": w.operations,
		"cpu_seconds": w.cpu, "wall_seconds": w.wall,
		"p50_us": w.quantile(0.50), "p99_us": w.quantile(0.99),
	}
	if w.scenario == "tick" {
		line["missed"] = w.missed
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func serve(requests <-chan request) {
	for each := range requests {
		each.reply <- each.value
	}
}

func ask(server chan<- request, value int) int {
	reply := make(chan int, 1)
	server <- request{value, reply}
	return <-reply
}

func askWithin(server chan<- request, value int, limit time.Duration) (int, bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	reply := make(chan int, 1)
	select {
	case server <- request{value, reply}:
	case <-timer.C:
		return 0, false
	}
	select {
	case answer := <-reply:
		return answer, true
	case <-timer.C:
		return 0, false
	}
}

func roundTrips(w *window, count int) {
	server := make(chan request, count)
	go serve(server)
	hasDeadline := w.scenario == "round_trip_deadline"
	var crowd sync.WaitGroup
	w.open()
	for n := 0; n < count; n++ {
		crowd.Add(1)
		go func() {
			defer crowd.Done()
			waits := make([]time.Duration, 0, 4096)
			for began := time.Now(); began.Before(w.until); {
				if hasDeadline {
					if _, ok := askWithin(server, 1, timeout); !ok {
						panic("no answer within a second")
					}
				} else {
					ask(server, 1)
				}
				ended := time.Now()
				waits = append(waits, ended.Sub(began))
				began = ended
			}
			w.took(waits)
		}()
	}
	crowd.Wait()
	w.shut()
	close(server)
}

func fanIn(w *window) {
	// One in ten messages carries its time, as everywhere; the others carry zero.
	queue := make(chan time.Duration, senders*burst)
	starts := make([]chan struct{}, senders)
	origin := time.Now()
	for sender := range starts {
		starts[sender] = make(chan struct{}, 1)
		go func(sender int) {
			for range starts[sender] {
				for nth := 0; nth < burst; nth++ {
					var sent time.Duration
					if nth == sender%burst {
						sent = time.Since(origin)
					}
					queue <- sent
				}
			}
		}(sender)
	}
	w.open()
	for time.Now().Before(w.until) {
		for _, start := range starts {
			start <- struct{}{}
		}
		for n := 0; n < senders*burst; n++ {
			if sent := <-queue; sent != 0 {
				w.waits = append(w.waits, time.Since(origin)-sent)
			}
		}
		w.operations += senders * burst
	}
	w.shut()
}

func tick(w *window) {
	server := make(chan request)
	go serve(server)
	for n := 0; n < busy; n++ {
		go func() {
			for {
				for until := time.Now().Add(step); time.Now().Before(until); {
				}
				runtime.Gosched()
			}
		}()
	}
	w.open()
	instants, inTime := 0, 0
	for index := 1; ; index++ {
		if passed := int(time.Since(w.began)/period) + 1; passed > index {
			index = passed
		}
		due := w.began.Add(time.Duration(index) * period)
		if !due.Before(w.until) {
			break
		}
		instants = index
		time.Sleep(time.Until(due))
		ask(server, 1)
		wait := time.Since(due)
		w.waits = append(w.waits, wait)
		w.operations++
		if wait <= period {
			inTime++
		}
	}
	w.shut()
	if instants > 0 {
		w.missed = 1 - float64(inTime)/float64(instants)
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: peer SCENARIO SECONDS")
		os.Exit(2)
	}
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		panic(err)
	}
	w := &window{scenario: os.Args[1], length: time.Duration(seconds * float64(time.Second))}
	switch w.scenario {
	case "round_trip", "round_trip_deadline":
		roundTrips(w, 1)
	case "round_trip_100":
		roundTrips(w, clients)
	case "fan_in":
		fanIn(w)
	case "tick":
		tick(w)
	default:
		fmt.Fprintln(os.Stderr, "no scenario", w.scenario)
		os.Exit(2)
	}
	w.report()
}
