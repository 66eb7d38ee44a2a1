//! A future that uses the handler's own fields, and may live longer than the handler's turn.

use std::time::Duration;
use uringd::{Handler, Reply, Request, Response};

struct Counter {
    requests: u64,
}

impl Handler for Counter {
    fn handle(&mut self, _: &Request<'_>) -> Reply {
        Reply::later(async move {
            uringd::sleep(Duration::from_secs(1)).await;
            self.requests += 1;
            Response::text(self.requests.to_string())
        })
    }
}

fn main() {
    let _ = uringd::test::client(Counter { requests: 0 });
}
