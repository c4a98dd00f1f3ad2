"""Cases from anywhere: predictions files and the layouts of data sets."""
