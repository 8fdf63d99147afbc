// Command peer serves the series of a file by client_golang: const metrics made at each scrape, or a CounterVec.
//
// The file has a line for each series: the label values and the value, with tabs between them.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const name, help = "anthropic_usage_tokens_total", "Tokens used."

var labels = []string{"model", "workspace_id", "service_tier", "context_window", "inference_geo", "token_type"}

type series struct {
	labels []string
	value  float64
}

// collector makes all metrics anew at each scrape; they grow by one each second.
type collector struct {
	desc   *prometheus.Desc
	series []series
	begun  time.Time
}

func (c *collector) Describe(found chan<- *prometheus.Desc) { found <- c.desc }

func (c *collector) Collect(found chan<- prometheus.Metric) {
	grown := float64(int(time.Since(c.begun).Seconds()))
	for _, one := range c.series {
		found <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, one.value+grown, one.labels...)
	}
}

func read(path string) (found []series) {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), "\t")
		last := len(parts) - 1
		value, err := strconv.ParseFloat(parts[last], 64)
		if err != nil {
			log.Fatal(err)
		}
		found = append(found, series{parts[:last], value})
	}
	return found
}

func main() {
	registry, found := prometheus.NewRegistry(), read(os.Args[2])
	if os.Args[1] == "vec" {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		for _, one := range found {
			vec.WithLabelValues(one.labels...).Add(one.value)
		}
		registry.MustRegister(vec)
	} else {
		desc := prometheus.NewDesc(name, help, labels, nil)
		registry.MustRegister(&collector{desc, found, time.Now()})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s/metrics\n", listener.Addr())
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	log.Fatal(http.Serve(listener, nil))
}
