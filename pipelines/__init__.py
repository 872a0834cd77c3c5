"""One file per job that someone deploys: options, `build(pipeline, settings)`, `run(argv)`."""
