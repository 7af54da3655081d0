//! The EROFS on-disk format: a streaming writer, and a reader that checks it.
