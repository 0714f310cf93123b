"""A fleet: devices behind a Dask scheduler, a job being one block's visit to one of them.

    asked      what --fleet says: an address, `ssh:host1,host2`, a file
    clusters   who starts schedulers and workers: this host, SSH, Slurm, Kubernetes
    keys       TLS of a cluster that is started here
    admission  who takes part: versions, devices, addresses that are open to anybody
    dask       the executor: one device, or several kinds side by side
    bench      a run's jobs on their way
    post       what runs on a worker

Transport, retries and discovery are Dask's.
"""
