module arbiter.invalid/hack/prometheus

go 1.26.0

require github.com/prometheus/prometheus v0.311.3
