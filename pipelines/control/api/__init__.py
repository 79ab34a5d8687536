"""HTTP and WebSockets: one router a file. What is done is done by the services."""
