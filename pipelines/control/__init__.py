"""The control plane: one API and one page from which every run is seen, started, stopped and understood.

    settings  what a process of it is told, by its environment
    store/    the database: the log of events, runs and their leases, models, metrics, principals, audit
    bus/      wakes readers; in this process, or through Redis
    cache/    what costs much to read: in memory, in Redis, on disk
    auth/     who asks, and what they may
    services/ what is done: runs, their queue and their collector, models, metrics, settings, caches
    api/      HTTP and WebSockets, one router a file
    mcp/      the same for language models, as a server of the Model Context Protocol
    companions/ others' servers of that protocol, which are told of runs
    dashboard/ the page

No run needs any of it: a run writes its events into its folder, a pod into its store, and the collector reads both.
"""
