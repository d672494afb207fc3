//! A client whose futures are polled by an executor.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use raft_client::{Client, CommandError, Consistency, Options, QueryError, Reason, Retry};

use crate::support::{Service, Turn, is_command};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor.
fn wait<F: Future>(future: F) -> F::Output {
    let (waker, mut future) = (Waker::from(Arc::new(Unpark(thread::current()))), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn many_tasks_share_a_client() {
    let service = Service::start(3, |_, _| Turn::Serve);
    service.lock().leader = 1;
    let client = Client::start(&service.options(&[0, 1, 2])).unwrap();
    let threads: Vec<_> = (0..4u8)
        .map(|thread| {
            let client = client.clone();
            thread::spawn(move || {
                // Begun together; more than one session has room for.
                let begun: Vec<_> = (0..100u8).map(|number| client.execute(vec![thread, number], None)).collect();
                for (number, future) in begun.into_iter().enumerate() {
                    assert_eq!(wait(future).unwrap().bytes, Some(vec![thread, number as u8]));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(wait(client.query(Consistency::Linearizable, b"ab".to_vec(), None)), Ok(b"ba".to_vec()));
    assert!(wait(client.status(&service.address(2), None)).is_ok());
    assert!(wait(client.execute_plain(b"p".to_vec(), Retry::Always, None)).is_ok());
    let opened = client.stats().sessions_opened;
    assert!(wait(client.close()));
    assert_eq!(service.lock().executed.len(), 401);
    assert_eq!(service.lock().closed.len() as u64, opened);
    service.assert_none_twice();
}

#[test]
fn a_closed_client_takes_no_more_and_finishes_what_was_begun() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let client = Client::start(&service.options(&[0])).unwrap();
    let other = client.clone();
    let begun = client.execute(b"a".to_vec(), None);
    let closed = client.close();
    assert_eq!(wait(other.execute(b"b".to_vec(), None)), Err(CommandError::NotExecuted(Reason::Closed)));
    assert!(wait(begun).is_ok());
    assert!(wait(closed));
    assert_eq!(wait(other.query(Consistency::Stale, Vec::new(), None)), Err(QueryError(Reason::Closed)));
}

#[test]
fn what_was_begun_is_finished_though_the_handle_is_gone() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let client = Client::start(&service.options(&[0])).unwrap();
    let begun = client.execute(b"a".to_vec(), None);
    drop(client);
    assert!(wait(begun).is_ok());
}

#[test]
fn more_requests_than_allowed_are_refused_as_busy() {
    let service = Service::start(1, |_, request| if is_command(request) { Turn::Lose } else { Turn::Serve });
    let options = Options { requests_max: 3, ..service.options(&[0]) };
    let client = Client::start(&options).unwrap();
    let deadline = Some(Duration::from_millis(100));
    let begun: Vec<_> = (0..3).map(|_| client.execute(b"a".to_vec(), deadline)).collect();
    assert_eq!(wait(client.execute(b"b".to_vec(), deadline)), Err(CommandError::NotExecuted(Reason::Busy)));
    for future in begun {
        assert_eq!(wait(future).unwrap_err().reason(), &Reason::Deadline);
    }
    assert!(wait(client.query(Consistency::Stale, Vec::new(), None)).is_ok());
}

#[test]
fn in_a_fifo_client_there_is_one_session() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let client = Client::start(&Options { fifo: true, ..service.options(&[0]) }).unwrap();
    for round in 0..4u8 {
        let begun: Vec<_> = (0..64u8).map(|number| client.execute(vec![round, number], None)).collect();
        for future in begun {
            wait(future).unwrap();
        }
    }
    assert_eq!(client.stats().sessions_opened, 1);
}
