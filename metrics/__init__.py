"""What was measured, and the clock that stamped it.

From a page of text to what a policy may know, in this order:

| module | does |
|---|---|
| `target`, `scrape`, `scrape_loop` | read thousands of pods' /metrics, each at its own period, bounded in every way |
| `exposition` | parse Prometheus text 0.0.4 and OpenMetrics 1.0 (pure) |
| `names`, `catalog` | every vLLM name since 0.6; `read_sample`: one page to one `EngineSample` (pure, the hot path) |
| `sample`, `quantile`, `window` | typed values; histogram arithmetic; rates over one pod's samples (pure) |
| `prometheus` | history from a Prometheus server |
| `telemetry` | what the controller says of itself |
| `clock` | the only reader of real time |
| `errors` | what can go wrong, and who acts |
| `pages` | writes vLLM-like pages for tests and benchmarks |
"""
