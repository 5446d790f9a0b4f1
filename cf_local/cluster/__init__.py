"""Sources on other machines, as actors of a Ray cluster: the only room that imports ``ray``.

``ray`` is an extra, imported when a cluster is asked for and never before.
"""
