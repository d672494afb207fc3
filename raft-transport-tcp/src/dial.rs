//! Finding the socket address of a peer without ever holding up the event loop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

/// A look-up under way.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It was an address already.
    Known(SocketAddr),
    /// A thread asks the system, which may take long.
    Asking(Receiver<io::Result<SocketAddr>>),
}

impl Lookup {
    /// Begins to look up `address`, of the form `host:port`.
    pub(crate) fn begin(address: &str) -> io::Result<Lookup> {
        if let Ok(known) = address.parse() {
            return Ok(Lookup::Known(known));
        }
        let (answer, receiver) = channel();
        let address = address.to_owned();
        thread::Builder::new().name("raft-lookup".to_owned()).spawn(move || {
            let found = address.to_socket_addrs().and_then(|mut found| {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                found.next().ok_or_else(none)
            });
            // Who asked may have gone on; then nobody wants to know.
            let _ = answer.send(found);
        })?;
        Ok(Lookup::Asking(receiver))
    }

    /// The address, if it is known by now.
    pub(crate) fn poll(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Lookup::Known(address) => Ok(Some(*address)),
            Lookup::Asking(receiver) => match receiver.try_recv() {
                Ok(found) => found.map(Some),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_known_at_once_and_names_are_asked_for() {
        let known = Lookup::begin("127.0.0.1:70").unwrap();
        assert_eq!(known.poll().unwrap(), Some("127.0.0.1:70".parse().unwrap()));
        let asking = Lookup::begin("no port").unwrap();
        while let Ok(None) = asking.poll() {
            thread::yield_now();
        }
    }
}
