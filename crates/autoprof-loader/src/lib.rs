//! Finds, checks and loads autoprof plugins
