//! State of a worker that is given to the thread which keeps the promises.

use std::cell::Cell;
use std::rc::Rc;
use uringd::{Cluster, Reply, Request, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|worker| {
        let count = Rc::new(Cell::new(0));
        move |_: &Request<'_>| {
            let (promise, reply) = Reply::promise();
            let count = Rc::clone(&count);
            let thread = worker.spawn_thread("counts", move || {
                count.set(count.get() + 1);
                promise.keep(Response::text(count.get().to_string()));
            });
            thread.map(|_| reply)
        }
    })
}
