"""What happens to a pod when it is created: its demand is frozen into it, or it is refused with a sentence.

`decision.py` decides (pure), `containers.py` and `classes.py` are its vocabulary, `webhook.py` serves it through kopf.
"""
