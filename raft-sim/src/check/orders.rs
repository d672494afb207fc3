//! What operators are told is what happened: `Changed`, `Transferred`, `SnapshotMade`, and each reason why not.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::client::protocol::RoleName;
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::configuration::{Configuration, Suffrage};
use raft_core::raft::TransferError;
use raft_core::types::{EntryId, Incarnation, Index, NodeId, Term};

use super::elections::Elections;
use super::refusals::{Scene, Standing};
use crate::violation::Violation;

/// What was told to operators.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Changes of members that were told to be done: each is the answer to one order.
    changed: BTreeSet<EntryId>,
    /// How far the snapshots reach that were told to be durable, by the life of a storage.
    snapshots: BTreeMap<Incarnation, Index>,
}

/// What is known of an entry that is told to have changed the members.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// The entry.
    pub entry: EntryId,
    /// Whether it is committed, where somebody knows what is at its index.
    pub committed: Option<bool>,
    /// The configuration in it.
    pub configuration: Option<&'a Configuration>,
}

fn untrue(node: NodeId, said: String, but: &'static str) -> Violation {
    Violation::UntrueToOperator { node, said, but }
}

impl Orders {
    /// A node says that the members were changed as it was asked.
    ///
    /// # Errors
    /// The entry is not committed, does not say what was asked, or was the answer to another order.
    pub fn changed(&mut self, node: NodeId, asked: &[MemberChange], change: &Change<'_>) -> Result<(), Violation> {
        let not = |but| Err(untrue(node, format!("Changed by {:?}", change.entry), but));
        if change.committed != Some(true) {
            return not("that entry is not committed");
        }
        if !change.configuration.is_some_and(|configuration| holds(configuration, asked)) {
            return not("that entry does not hold what was asked");
        }
        if !self.changed.insert(change.entry) {
            return not("that entry answered another order");
        }
        Ok(())
    }

    /// A node, which took the order when it was `taken`, says that it has handed over; `asked` is to whom it was to.
    ///
    /// # Errors
    /// It leads, `to` was not elected since, or another one was asked for.
    pub fn transferred(
        scene: &Scene<'_>,
        taken: &Standing,
        asked: Option<NodeId>,
        to: NodeId,
        elections: &Elections,
    ) -> Result<(), Violation> {
        let not = |but| Err(untrue(scene.node, format!("Transferred to {to}"), but));
        if scene.after.role == RoleName::Leader || to == scene.node {
            return not("it leads itself");
        }
        if scene.after.term <= taken.term || elections.leader(scene.after.term) != Some(to) {
            return not("that node was not elected since");
        }
        if asked.is_some_and(|asked| asked != to) {
            return not("another one was asked for");
        }
        Ok(())
    }

    /// A node that had applied everything up to `taken` when it took the order says that a snapshot is durable.
    ///
    /// # Errors
    /// It has none that reaches so far, or it does not reach as far as was asked.
    pub fn snapshot_made(
        &mut self,
        scene: &Scene<'_>,
        storage: Incarnation,
        taken: &Standing,
        through: Index,
    ) -> Result<(), Violation> {
        let not = |but| Err(untrue(scene.node, format!("SnapshotMade through {through}"), but));
        if through < taken.applied {
            return not("more was applied when it was asked for");
        }
        if scene.after.snapshot < through {
            return not("its storage has no such snapshot");
        }
        let told = self.snapshots.entry(storage).or_default();
        *told = through.max(*told);
        Ok(())
    }

    /// A node has started over a storage whose snapshot reaches that far.
    ///
    /// # Errors
    /// It said once that one was durable which reaches further.
    pub fn started(&self, node: NodeId, storage: Incarnation, snapshot: Index) -> Result<(), Violation> {
        match self.snapshots.get(&storage) {
            Some(told) if snapshot < *told => {
                Err(untrue(node, format!("SnapshotMade through {told}"), "it is not there after a start"))
            }
            _ => Ok(()),
        }
    }

    /// A node says why it does not hand over to `to`, or to anybody.
    ///
    /// # Errors
    /// The reason is not true.
    pub fn not_transferred(
        scene: &Scene<'_>,
        known: &[&Configuration],
        to: Option<NodeId>,
        error: TransferError,
    ) -> Result<(), Violation> {
        let is_true = match error {
            TransferError::NotLeader { .. } => !scene.led(),
            TransferError::LeadsAlready => to == Some(scene.node) && scene.led_at_all(),
            TransferError::UnderWay { to } => scene.was_handing_over_to(to),
            TransferError::NotVoter { to: other } => {
                let votes = |known: &&Configuration| known.member(other).is_some_and(|member| member.votes());
                let witness = |known: &&Configuration| {
                    known.member(other).is_some_and(|member| member.suffrage == Suffrage::Witness)
                };
                to == Some(other) && known.iter().any(|known| !votes(known) || witness(known))
            }
            TransferError::Unreachable { to: other } => to == Some(other) && scene.led_at_all(),
            TransferError::Nobody => to.is_none() && scene.led_at_all(),
            _ => true,
        };
        if is_true { Ok(()) } else { Err(untrue(scene.node, format!("{error:?}"), "that is not so")) }
    }

    /// A node says that whom it was `asked` to hand over to, or anybody, did not take over.
    ///
    /// # Errors
    /// That node was elected since the order was taken.
    pub fn not_taken_over(
        scene: &Scene<'_>,
        taken: &Standing,
        asked: Option<NodeId>,
        elections: &Elections,
    ) -> Result<(), Violation> {
        let mut since = (taken.term.0 + 1..=scene.after.term.0).filter_map(|term| elections.leader(Term(term)));
        if since.all(|leader| asked.map_or(leader == scene.node, |asked| leader != asked)) {
            return Ok(());
        }
        Err(untrue(scene.node, "NotTakenOver".to_owned(), "that node was elected since"))
    }

    /// A node, of which some configurations are `known`, says why the members are not changed as it was `asked`.
    ///
    /// # Errors
    /// The reason is not true.
    pub fn not_changed(
        scene: &Scene<'_>,
        known: &[&Configuration],
        asked: &[MemberChange],
        error: ChangeError,
    ) -> Result<(), Violation> {
        let under_way = |side: &Standing| side.joint || side.configuration > side.commit;
        let is_true = match error {
            // One that began and ended in this turn was under way in between.
            ChangeError::UnderWay => {
                let changed = scene.changed || scene.before.configuration != scene.after.configuration;
                changed || under_way(&scene.before) || under_way(&scene.after)
            }
            // The other reasons follow from a configuration, some member that has caught up, and the order alone.
            error => known.iter().any(|known| is_reason(known, asked, error)),
        };
        if is_true { Ok(()) } else { Err(untrue(scene.node, format!("{error:?}"), "that is not so")) }
    }
}

/// Whether `error` is why `asked` cannot be done with that configuration.
fn is_reason(known: &Configuration, asked: &[MemberChange], error: ChangeError) -> bool {
    let names = |id: NodeId| asked.iter().any(|change| subject(change) == id);
    let adds = |id| asked.iter().any(|change| matches!(change, MemberChange::Add(member) if member.id == id));
    let removes = |id| asked.iter().any(|change| matches!(change, MemberChange::Remove(gone) if *gone == id));
    let member = |id: NodeId| known.member(id);
    match error {
        ChangeError::NotMember { id } => names(id) && (member(id).is_none() || (removes(id) && names_twice(asked, id))),
        ChangeError::AlreadyMember { id } => adds(id) && (member(id).is_some() || names_twice(asked, id)),
        ChangeError::LastVoter | ChangeError::TooManyWitnesses | ChangeError::NeverPromoted { .. } => {
            asked.iter().any(|change| !matches!(change, MemberChange::Prioritize { .. } | MemberChange::Move { .. }))
        }
        ChangeError::Witness { id } => {
            let witness = |member: &raft_core::configuration::Member| {
                matches!(member.suffrage, Suffrage::Witness | Suffrage::JoiningWitness)
            };
            names(id) && (member(id).is_some_and(witness) || adds(id))
        }
        ChangeError::Unchanged { id } => names(id) && (member(id).is_some() || adds(id)),
        ChangeError::NotCaughtUp { id } => adds(id),
        ChangeError::TooManyMembers { .. } => asked.iter().any(|change| matches!(change, MemberChange::Add(_))),
        ChangeError::Unreachable { voters, reachable } => 2 * reachable <= voters,
        _ => true,
    }
}

fn names_twice(asked: &[MemberChange], id: NodeId) -> bool {
    asked.iter().filter(|change| subject(change) == id).count() > 1
}

fn subject(change: &MemberChange) -> NodeId {
    match change {
        MemberChange::Add(member) => member.id,
        MemberChange::Promote(id) | MemberChange::Demote(id) | MemberChange::Remove(id) => *id,
        MemberChange::Move { id, .. } | MemberChange::Prioritize { id, .. } | MemberChange::Register { id, .. } => *id,
    }
}

/// Whether a configuration holds what was asked: of each member what was asked last.
fn holds(configuration: &Configuration, asked: &[MemberChange]) -> bool {
    asked.iter().enumerate().all(|(number, change)| {
        let id = subject(change);
        let is_last = asked.iter().skip(number + 1).all(|later| subject(later) != id);
        let member = configuration.member(id).filter(|member| !member.is_leaving());
        match (change, member) {
            _ if !is_last => true,
            // Who leaves can be changed until the second step.
            (_, None) if asked.contains(&MemberChange::Remove(id)) => true,
            (MemberChange::Remove(_), Some(_)) => false,
            (_, None) => false,
            (MemberChange::Prioritize { priority, .. }, Some(member)) => member.priority == *priority,
            (MemberChange::Move { address, .. }, Some(member)) => member.address == *address,
            (MemberChange::Register { incarnation, .. }, Some(member)) => member.incarnation == Some(*incarnation),
            (MemberChange::Demote(_), Some(member)) => member.suffrage == Suffrage::Learner,
            (MemberChange::Promote(_), Some(member)) => member.suffrage != Suffrage::Learner,
            (MemberChange::Add(_), Some(_)) => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::configuration::{Member, voters};
    use raft_core::raft::config::Config;
    use raft_core::types::ClusterId;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn scene(config: &Config, after: Standing) -> Scene<'_> {
        let before = Standing { role: RoleName::Leader, term: Term(2), applied: Index(9), ..Standing::default() };
        Scene {
            node: node(1),
            before,
            after,
            handed_to: &[],
            changed: false,
            disk_failed: false,
            stopping: false,
            config,
        }
    }

    #[test]
    fn a_change_that_is_not_committed_or_says_something_else_is_found() {
        let entry = EntryId::new(Term(2), Index(7));
        let (with, without) = (voters(ClusterId(1), 3).unwrap(), voters(ClusterId(1), 2).unwrap());
        let asked = [MemberChange::Remove(node(3))];
        let changed = |orders: &mut Orders, committed, configuration| {
            orders.changed(node(1), &asked, &Change { entry, committed, configuration }).is_ok()
        };
        let mut orders = Orders::default();
        assert!(!changed(&mut orders, Some(false), Some(&without)), "another leader's entry is there");
        assert!(!changed(&mut orders, None, Some(&without)), "nobody knows it to be committed");
        assert!(!changed(&mut orders, Some(true), Some(&with)), "node 3 is there");
        assert!(!changed(&mut orders, Some(true), None), "it is no configuration");
        assert!(changed(&mut orders, Some(true), Some(&without)));
        assert!(!changed(&mut orders, Some(true), Some(&without)), "it answered another order");
    }

    #[test]
    fn a_hand_over_that_did_not_happen_is_found() {
        let config = Config::default();
        let mut elections = Elections::default();
        elections.won(Term(3), node(2)).unwrap();
        let taken = Standing { role: RoleName::Leader, term: Term(2), ..Standing::default() };
        let follows = |term| Standing { leader: Some(node(2)), term: Term(term), ..Standing::default() };
        let transferred =
            |after, to| Orders::transferred(&scene(&config, after), &taken, None, node(to), &elections).is_ok();
        assert!(transferred(follows(3), 2));
        assert!(!transferred(follows(3), 3), "node 3 was not elected");
        assert!(!transferred(follows(2), 2), "it is the term in which it was asked");
        assert!(!transferred(Standing { role: RoleName::Leader, ..follows(3) }, 2));
        let other = Orders::transferred(&scene(&config, follows(3)), &taken, Some(node(3)), node(2), &elections);
        assert!(other.is_err(), "node 3 was asked for");
        let not_taken_over =
            |after, asked| Orders::not_taken_over(&scene(&config, after), &taken, asked, &elections).is_ok();
        assert!(not_taken_over(taken, None));
        assert!(!not_taken_over(follows(3), None));
        assert!(!not_taken_over(Standing { term: Term(4), ..taken }, Some(node(2))), "node 2 led in term 3");
        assert!(not_taken_over(follows(3), Some(node(3))), "node 2 took over, and node 3 was asked for");
    }

    #[test]
    fn a_snapshot_that_is_not_there_is_found() {
        let config = Config::default();
        let taken = Standing { applied: Index(9), ..Standing::default() };
        let made = |orders: &mut Orders, snapshot, through| {
            let after = Standing { snapshot: Index(snapshot), ..Standing::default() };
            orders.snapshot_made(&scene(&config, after), Incarnation(5), &taken, Index(through)).is_ok()
        };
        let mut orders = Orders::default();
        assert!(!made(&mut orders, 8, 9));
        assert!(!made(&mut orders, 12, 8), "9 was applied when it was asked for");
        assert!(made(&mut orders, 12, 12));
        assert_eq!(orders.started(node(1), Incarnation(5), Index(12)), Ok(()));
        assert!(orders.started(node(1), Incarnation(5), Index(11)).is_err());
        assert_eq!(orders.started(node(1), Incarnation(6), Index(0)), Ok(()), "another storage");
    }

    #[test]
    fn reasons_against_a_change_or_a_hand_over_that_are_not_true_are_found() {
        let config = Config::default();
        let known = voters(ClusterId(1), 3).unwrap();
        let scene = scene(&config, Standing { role: RoleName::Leader, ..Standing::default() });
        let change = |asked: &[MemberChange], error| Orders::not_changed(&scene, &[&known], asked, error).is_ok();
        let remove = [MemberChange::Remove(node(7))];
        assert!(change(&remove, ChangeError::NotMember { id: node(7) }));
        assert!(!change(&[MemberChange::Remove(node(2))], ChangeError::NotMember { id: node(2) }));
        assert!(!change(&remove, ChangeError::UnderWay), "nothing is");
        let changed = Standing { configuration: Index(8), commit: Index(9), ..Standing::default() };
        let in_between =
            Orders::not_changed(&Scene { after: changed, ..scene.clone() }, &[&known], &remove, ChangeError::UnderWay);
        assert!(in_between.is_ok(), "one began and ended in this turn");
        let dropped =
            Orders::not_changed(&Scene { changed: true, ..scene.clone() }, &[&known], &remove, ChangeError::UnderWay);
        assert!(dropped.is_ok(), "one began and was dropped in this turn");
        let add = [MemberChange::Add(Member::new(node(7), Suffrage::Learner, "").unwrap())];
        assert!(!change(&add, ChangeError::AlreadyMember { id: node(7) }));
        assert!(!change(&add, ChangeError::Unreachable { voters: 3, reachable: 2 }));
        let transfer = |to, error| Orders::not_transferred(&scene, &[&known], to, error).is_ok();
        assert!(transfer(Some(node(7)), TransferError::NotVoter { to: node(7) }));
        assert!(!transfer(Some(node(2)), TransferError::NotVoter { to: node(2) }));
        assert!(!transfer(Some(node(2)), TransferError::LeadsAlready));
        assert!(!transfer(None, TransferError::UnderWay { to: node(2) }));
        assert!(!transfer(Some(node(2)), TransferError::Nobody));
    }
}
