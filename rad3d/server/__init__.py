"""What guards and watches the HTTP server: access, uploads, headers, queue, log, metrics."""
