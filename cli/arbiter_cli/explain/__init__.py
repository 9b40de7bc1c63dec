"""`arbiter explain`: why things on GPUs are as they are, and what would change them.

`command` reads and prints; `pod`, `waiting`, `gpu`, `allocation` and `maker` make explanations of a snapshot, pure;
`scene` and `changes` ask the solver what would be; `text` is how explanations are printed.
"""
