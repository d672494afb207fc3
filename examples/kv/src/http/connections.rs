//! The HTTP connections that are served at once. Where there is no place for one more, the one that has been idle for
//! longest gives way, first of all one that has never asked for anything: silence keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Notify;

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    connections_max: usize,
    /// Counts connections and requests, to tell which came first.
    moments: AtomicU64,
    freed: Notify,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Requests that were read and are not answered.
    requests: AtomicUsize,
    /// The moment of its last request; 0 before the first.
    asked: AtomicU64,
    close: Notify,
}

/// The place of a connection, for as long as it is served.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Connections {
    pub(crate) fn new(connections_max: usize) -> Arc<Connections> {
        let (open, moments) = (Mutex::default(), AtomicU64::new(1));
        Arc::new(Connections { open, connections_max, moments, freed: Notify::new() })
    }

    /// A place for a connection. Waits while all are taken by connections that are being answered.
    pub(crate) async fn place(self: &Arc<Connections>) -> Place {
        loop {
            if let Some(place) = self.free_place() {
                return place;
            }
            self.shed();
            self.freed.notified().await;
        }
    }

    fn free_place(self: &Arc<Connections>) -> Option<Place> {
        let mut open = self.open();
        if open.len() >= self.connections_max {
            return None;
        }
        let number = self.moment();
        let idle = Connection { requests: AtomicUsize::new(0), asked: AtomicU64::new(0), close: Notify::new() };
        let connection = Arc::new(idle);
        open.insert(number, Arc::clone(&connection));
        Some(Place { connections: Arc::clone(self), number, connection })
    }

    /// Closes the connection that has been idle for longest, if one is idle.
    pub(crate) fn shed(&self) {
        let open = self.open();
        let idle = open.iter().filter(|(_, connection)| connection.requests.load(Ordering::Relaxed) == 0);
        let longest = idle.min_by_key(|&(&number, connection)| (connection.asked.load(Ordering::Relaxed), number));
        if let Some((_, connection)) = longest {
            connection.close.notify_one();
        }
    }

    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        // Nothing is done with it that could leave it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ends when the connection is to give way.
    pub(crate) async fn closed(&self) {
        self.connection.close.notified().await;
    }

    /// What [`count`] needs.
    pub(crate) fn counted(&self) -> Counted {
        Counted { connections: Arc::clone(&self.connections), connection: Arc::clone(&self.connection) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
        self.connections.freed.notify_one();
    }
}

/// Whose requests are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

/// Counts a request while it is being answered. Whoever waits for a place is told when it no longer is.
pub(crate) async fn count(State(counted): State<Counted>, request: Request, next: Next) -> Response {
    struct UnderWay(Counted);
    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.connection.requests.fetch_sub(1, Ordering::Relaxed);
            self.0.connections.freed.notify_one();
        }
    }
    counted.connection.asked.store(counted.connections.moment(), Ordering::Relaxed);
    counted.connection.requests.fetch_add(1, Ordering::Relaxed);
    let _under_way = UnderWay(counted);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the places are told to give way.
    async fn closed(places: &[Place]) -> Vec<bool> {
        let mut closed = Vec::new();
        for place in places {
            closed.push(tokio::time::timeout(std::time::Duration::ZERO, place.closed()).await.is_ok());
        }
        closed
    }

    #[tokio::test]
    async fn the_silent_ones_go_first_and_those_that_are_answered_stay() {
        let connections = Connections::new(3);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(connections.place().await);
        }
        assert!(connections.free_place().is_none());
        // The first one is being answered, the second one was, the third one has never asked.
        places[0].connection.requests.store(1, Ordering::Relaxed);
        for place in &places[..2] {
            place.connection.asked.store(connections.moment(), Ordering::Relaxed);
        }
        connections.shed();
        assert_eq!(closed(&places).await, [false, false, true]);
        drop(places.pop());
        connections.shed();
        assert_eq!(closed(&places).await, [false, true]);
        drop(places.pop());
        connections.shed();
        assert_eq!(closed(&places).await, [false]);
        assert!(connections.free_place().is_some());
    }
}
