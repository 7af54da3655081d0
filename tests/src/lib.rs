//! The harness that the end-to-end stories share.
