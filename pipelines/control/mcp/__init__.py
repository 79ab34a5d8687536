"""The control plane as a server of the Model Context Protocol, for assistants. As a client: `pipelines/control/companions`.

server        the tools and resources that an assistant gets
access        who calls, whether they may, and what is written down of it
confirmation  what changes something is called twice: the second time with what the first one gave
foreign       text of runs, logs and model cards: data, never instructions
client        memory, filesystem, github and eva, where they are configured
"""
