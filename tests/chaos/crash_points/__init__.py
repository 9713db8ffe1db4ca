"""Every crash point: a process that dies, fails, is cut off or stands still before or after any of its effects.

The points are found, not written: a clean run of each path is watched, and whatever it sends to either database is an
effect with a point before it and a point after it.
"""
