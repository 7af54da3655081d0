//! Guest kernels and their modules: finding, fetching and keeping them.
