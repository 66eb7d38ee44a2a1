//! How to think about a program on uringd, a page each: [what runs where](processes), [blocking], [state],
//! [later], [streaming], [messages], [restarts], [numbers], [logs], [testing], [deployment].
//!
//! Neighbours: none; there is nothing in here but pages.

#[doc = include_str!("guide/blocking.md")]
pub mod blocking {}
#[doc = include_str!("guide/deployment.md")]
pub mod deployment {}
#[doc = include_str!("guide/later.md")]
pub mod later {}
#[doc = include_str!("guide/logs.md")]
pub mod logs {}
#[doc = include_str!("guide/messages.md")]
pub mod messages {}
#[doc = include_str!("guide/numbers.md")]
pub mod numbers {}
#[doc = include_str!("guide/processes.md")]
pub mod processes {}
#[doc = include_str!("guide/restarts.md")]
pub mod restarts {}
#[doc = include_str!("guide/state.md")]
pub mod state {}
#[doc = include_str!("guide/streaming.md")]
pub mod streaming {}
#[doc = include_str!("guide/testing.md")]
pub mod testing {}
