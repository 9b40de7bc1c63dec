"""Grafana dashboards from a short description.

`model` is what they are made of and makes the JSON; `cluster`, `node` and `tenant` describe, `views` names them, and
`picture` draws one from a Prometheus without Grafana. Imports nothing of Arbiter: dashboards know metrics only.
"""
