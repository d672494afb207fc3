//! A client waits no longer than its route and its session ask for.

use super::*;

const TIMEOUT: Millis = Millis(200);

fn client(nodes: u64) -> Client {
    let nodes = (1..=nodes).map(|node| NodeId::new(node).unwrap()).collect();
    Client::new(Random::new(7), LoadOptions::default(), TIMEOUT, nodes)
}

fn sent(client: &mut Client) -> Vec<NodeId> {
    let sent = |told| if let Told::Sent { to, .. } = told { Some(to) } else { None };
    client.take_told().into_iter().filter_map(sent).collect()
}

/// Breaks every connection until the route asks for a pause.
fn disconnect_all(client: &mut Client, now: Instant) {
    client.act(now);
    assert_eq!(sent(client).len(), 1);
    while client.route.ready_at() <= now {
        client.disconnected(now, client.nodes[client.route.target()]);
    }
    client.act(now);
    assert_eq!(sent(client), []);
}

#[test]
fn what_the_route_holds_back_is_sent_when_the_pause_is_over() {
    for errand in [Errand::Command(vec![1]), Errand::Query(Consistency::Linearizable, vec![1])] {
        let (mut client, now) = (client(3), Instant(1000));
        assert!(client.begin(now, 0, errand.clone()));
        disconnect_all(&mut client, now);
        let ready_at = client.route.ready_at();
        let deadline = client.deadline();
        match &errand {
            // A query has a pause of its own besides.
            Errand::Query(..) => assert!(deadline >= ready_at && deadline < now.after(TIMEOUT), "{deadline:?}"),
            _ => assert_eq!(deadline, ready_at),
        }
        client.act(deadline);
        assert_eq!(sent(&mut client).len(), 1, "{errand:?}");
    }
}

#[test]
fn a_client_with_nothing_to_do_wants_nothing() {
    let client = client(3);
    assert_eq!(client.deadline(), Instant::NEVER);
}
