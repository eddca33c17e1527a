"""How many replicas a traffic wants: a discrete-event simulation of docs/scaling.md."""
