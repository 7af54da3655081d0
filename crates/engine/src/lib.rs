//! A VM specification in, a running machine out.
