//! Filters of system calls, as containers have them: for one thread and whatever it starts.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

/// Runs `then` under a filter that has this system call fail; children inherit it, other tests do not have it.
pub fn with_failing<T: Send>(call: i64, errno: i32, then: impl FnOnce() -> T + Send) -> T {
    under([(call, vec![])], SeccompAction::Allow, SeccompAction::Errno(errno as u32), then)
}

/// Runs `then` under a filter that treats these calls (with one of the rules fulfilled, if there are any) as `matched` says,
/// and all others as `otherwise` does.
pub fn under<T: Send>(
    calls: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>,
    otherwise: SeccompAction,
    matched: SeccompAction,
    then: impl FnOnce() -> T + Send,
) -> T {
    let arch = std::env::consts::ARCH.try_into().expect("an architecture that seccompiler knows");
    let filter = SeccompFilter::new(calls.into_iter().collect(), otherwise, matched, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            then()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
