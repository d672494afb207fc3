//! A leader that is heard and does not hear.

use std::time::Duration;

use raft_client::RoleName;

use crate::cluster::with_cluster;
use crate::namespaces::{Dropped, Drops};
use crate::rights::{self, Need};

#[test]
fn a_leader_that_hears_nobody_steps_down_and_the_others_go_on() {
    let name = "a_leader_that_hears_nobody_steps_down_and_the_others_go_on";
    if !rights::granted(name, &[Need::Namespaces, Need::Filters]) {
        return;
    }
    with_cluster(3, &[], |cluster, _| {
        cluster.start_all();
        cluster.settle();
        let (old, term) = cluster.leader();
        let mut client = cluster.client(Duration::from_secs(60));
        client.put("key", "before").unwrap();
        let others = (1..=3).filter(|node| *node != old);
        cluster.filter(&others.map(|from| Drops { at: old, what: Dropped::From(from) }).collect::<Vec<_>>());
        client.put("key", "meanwhile").unwrap();
        // It tells clients so, whom it does hear.
        cluster.wait_for("the deaf leader does not step down", |view| {
            view.0[old - 1].filter(|status| status.role != RoleName::Leader)
        });
        let (new, later) = cluster.leader();
        assert!(new != old && later > term);
        assert_eq!(client.get("key").as_deref(), Some("meanwhile"));
        cluster.filter(&[]);
        cluster.settle();
    });
}
