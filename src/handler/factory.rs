//! What a factory may give: a handler, or the reason why there is none.
//!
//! Neighbours: `cluster` takes the factory, `worker` calls it and tells the master of its failure.

use super::Handler;
use std::error::Error;

/// What the factory given to [`Cluster::run`](crate::Cluster::run) makes: a [`Handler`], or a `Result` of one whose error
/// becomes a boxed error. Nothing else can be made one.
#[diagnostic::on_unimplemented(
    message = "the factory gives `{Self}`, which is no handler",
    label = "neither a handler nor a `Result` of one",
    note = "a handler is a closure that says what it takes, `|request: &Request<'_>| ...`, and gives what becomes a \
            `Reply`, or a type that implements `Handler`; the error of a `Result` must become a `Box<dyn Error>`"
)]
pub trait IntoHandler: sealed::Sealed {
    /// The handler.
    type Handler: Handler;

    /// The handler, or why there is none.
    ///
    /// # Errors
    /// The factory's own.
    fn into_handler(self) -> Result<Self::Handler, Box<dyn Error>>;
}

impl<H: Handler> IntoHandler for H {
    type Handler = H;

    fn into_handler(self) -> Result<H, Box<dyn Error>> {
        Ok(self)
    }
}

// is in the note above, and would be offered to everybody
#[diagnostic::do_not_recommend]
impl<H, E> IntoHandler for Result<H, E>
where
    H: Handler,
    E: Into<Box<dyn Error>>,
{
    type Handler = H;

    fn into_handler(self) -> Result<H, Box<dyn Error>> {
        self.map_err(Into::into)
    }
}

mod sealed {
    use super::{Error, Handler};

    pub trait Sealed {}

    impl<H: Handler> Sealed for H {}

    impl<H: Handler, E: Into<Box<dyn Error>>> Sealed for Result<H, E> {}
}
