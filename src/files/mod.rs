//! Static files: from a request to what is sent, with every decision apart from the reading itself.
//!
//! `path` turns what the client asks for into a name below the root.
//! Neighbours: `config` has the settings; `handler` and `worker` above use it.

pub mod path;
