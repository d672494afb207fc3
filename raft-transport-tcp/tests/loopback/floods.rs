//! More connections than there are places: those that say nothing give way.

use super::*;

fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    matches!(stream.read(&mut [0; 64]), Ok(0)) || stream.write(&[0; 64]).is_err()
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let options = TcpOptions { handshakes_max: 8, handshake_timeout: Duration::from_secs(3600), ..unlinked() };
    let mut side = Side::with(options);
    let address = side.network.local_addr().unwrap();
    let mut silent = connect(address, 100);
    until(&mut [&mut side], |_| is_closed(&mut silent[91]));
    assert!(!is_closed(&mut silent[99]), "the newest ones stay");
    let mut client = TestClient::dial(address, Some(ClusterId(7)));
    until(&mut [&mut side], |_| {
        client.turn().unwrap();
        client.connection.is_established()
    });
}

/// A node without peers.
fn unlinked() -> TcpOptions {
    TcpOptions::new("127.0.0.1:0".parse().unwrap(), identity(1), Vec::new())
}

fn enter(side: &mut Side) -> Result<TestClient, ConnectionError> {
    let mut client = TestClient::dial(side.network.local_addr().unwrap(), Some(ClusterId(7)));
    while !client.connection.is_established() {
        side.turn();
        client.turn()?;
    }
    Ok(client)
}

#[test]
fn a_client_that_is_idle_gives_way_and_one_that_is_not_stays() {
    let mut side = Side::with(TcpOptions { clients_max: 2, ..unlinked() });
    let (mut first, mut second) = (enter(&mut side).unwrap(), enter(&mut side).unwrap());
    let refused = enter(&mut side).err().unwrap();
    assert!(matches!(refused, ConnectionError::Refused(Refusal::TooMany)), "{refused}");

    // The first one waits for an answer; the second one wants nothing.
    let body = RequestBody::Query { consistency: Default::default(), query: Bytes(b"wait") };
    first.connection.send(&Request { id: RequestId(1), forward: false, body }).unwrap();
    first.connection.flush().unwrap();
    let mut asked = None;
    until(&mut [&mut side], |sides| {
        asked = asked.or(sides[0].network.request().map(|(client, _)| client));
        asked.is_some()
    });
    let patience = Instant::now() + Duration::from_secs(60);
    let mut third = loop {
        match enter(&mut side) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < patience, "no client ever gives way: {error}"),
        }
    };
    until(&mut [&mut side], |_| second.turn().is_err());
    let response = Response { id: RequestId(1), body: ResponseBody::Answer(Bytes(b"now")) };
    side.network.respond(asked.unwrap(), &response);
    until(&mut [&mut side], |_| {
        first.turn().unwrap();
        third.turn().unwrap();
        first.connection.response().unwrap().is_some()
    });
}
