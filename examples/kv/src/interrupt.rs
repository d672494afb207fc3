//! Ctrl-C and SIGTERM, noted so that a command can stop what it has started before it ends.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// The status of a process that its user did not let come to its end, as shells have it.
const INTERRUPTED: i32 = 130;

/// Whether the user wants this process to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Notes signals from now on. The second one ends the process at once: its nodes notice.
    pub(crate) fn listen() -> io::Result<Interrupt> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _guard = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let noted = Interrupt(Arc::new(AtomicBool::new(false)));
        let flag = noted.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if flag.0.swap(true, Ordering::Relaxed) {
                        process::exit(INTERRUPTED);
                    }
                }
            });
        })?;
        Ok(noted)
    }

    /// Whether a signal has come.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
