"""Sources on other machines, as actors of a Ray cluster.

``ray`` is an extra, imported when a cluster is asked for and never before; rooms above get it from
``connection.library``.
"""
