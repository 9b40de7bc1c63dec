"""`arbiter top`: who has what of every GPU, live.

`view` is what there is to see, `lines` how it is written, `screen` what keys do; all pure. `feed` keeps the picture up
to date, `live` draws it on a terminal, `command` chooses between that and printing it once.
"""
