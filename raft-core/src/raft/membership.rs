//! Who the members are, as consensus needs it, and what a majority of them is: in a joint
//! configuration, one of each half (dissertation, section 4.3).

use heapless::Vec;

use crate::configuration::{Configuration, Suffrage};
use crate::types::{EntryId, Index, NodeId};

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    /// The index of the configuration that added it.
    pub(crate) added: Index,
    pub(crate) suffrage: Suffrage,
    /// Whether it votes in the configuration to come, or the only one.
    pub(crate) incoming: bool,
    /// Whether it votes in the one being left.
    pub(crate) outgoing: bool,
    pub(crate) priority: u8,
}

impl Peer {
    pub(crate) fn votes(&self) -> bool {
        self.incoming || self.outgoing
    }

    /// Whether it keeps entries without their payloads.
    pub(crate) fn is_witness(&self) -> bool {
        matches!(self.suffrage, Suffrage::Witness | Suffrage::LeavingWitness | Suffrage::JoiningWitness)
    }

    /// Whether it may campaign. One that is leaving may: until the new configuration is committed,
    /// the only logs that are up to date may be those of the old voters.
    pub(crate) fn may_lead(&self) -> bool {
        self.votes() && !self.is_witness()
    }
}

/// The members of one configuration, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership<const NODES: usize> {
    /// The entry that the configuration stands in.
    pub(crate) entry: EntryId,
    peers: Vec<Peer, NODES>,
    joint: bool,
}

/// The configuration has so many members, and the program was built for fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) usize);

impl<const NODES: usize> Membership<NODES> {
    pub(crate) fn new(entry: EntryId, configuration: &Configuration) -> Result<Membership<NODES>, TooMany> {
        let members = configuration.members();
        let peers = members.iter().map(|member| Peer {
            id: member.id,
            added: member.added,
            suffrage: member.suffrage,
            incoming: member.votes(),
            outgoing: member.outgoing_voter,
            priority: member.priority,
        });
        if members.len() > NODES {
            return Err(TooMany(members.len()));
        }
        Ok(Membership { entry, peers: peers.collect(), joint: configuration.is_joint() })
    }

    /// The members that a node knows of whose log is empty.
    pub(crate) fn none() -> Membership<NODES> {
        Membership { entry: EntryId::ZERO, peers: Vec::new(), joint: false }
    }

    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(crate) fn peer(&self, position: usize) -> Option<&Peer> {
        self.peers.get(position)
    }

    pub(crate) fn find(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    pub(crate) fn position(&self, id: NodeId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    /// Where the same membership as `peer` stands: that of an earlier member with its id is another one.
    pub(crate) fn position_of(&self, peer: &Peer) -> Option<usize> {
        self.peers.iter().position(|other| (other.id, other.added) == (peer.id, peer.added))
    }

    pub(crate) fn is_joint(&self) -> bool {
        self.joint
    }

    /// Whether the members for whom it holds are a majority, of each half in a joint configuration.
    pub(crate) fn agree(&self, holds: impl Fn(usize, &Peer) -> bool) -> bool {
        let majority = |votes: fn(&Peer) -> bool| {
            let voters = self.peers.iter().enumerate().filter(|(_, peer)| votes(peer));
            let (all, yes) = voters.fold((0_usize, 0_usize), |(all, yes), (position, peer)| {
                (all + 1, yes + usize::from(holds(position, peer)))
            });
            yes > all / 2
        };
        majority(|peer| peer.incoming) && (!self.joint || majority(|peer| peer.outgoing))
    }

    /// The highest value that a majority has reached, of each half in a joint configuration.
    pub(crate) fn reached<T: Copy + Ord + Default>(&self, value: impl Fn(usize, &Peer) -> T) -> T {
        let by_half = |votes: fn(&Peer) -> bool| {
            let mut values = [T::default(); NODES];
            let mut count = 0;
            for (position, peer) in self.peers.iter().enumerate().filter(|(_, peer)| votes(peer)) {
                if let Some(place) = values.get_mut(count) {
                    *place = value(position, peer);
                    count += 1;
                }
            }
            let (voters, _) = values.split_at_mut(count);
            voters.sort_unstable();
            // Of five sorted values, the third is reached by three.
            voters.get(count.saturating_sub(count / 2 + 1)).copied().unwrap_or_default()
        };
        let incoming = by_half(|peer| peer.incoming);
        if self.joint { incoming.min(by_half(|peer| peer.outgoing)) } else { incoming }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::configuration::Member;
    use crate::session::limits::SessionLimits;
    use crate::types::ClusterId;

    /// Members 1, 2, …: of which half each is.
    fn membership(halves: &[(bool, bool)]) -> Membership<6> {
        let members = (1..).zip(halves).map(|(id, &(incoming, outgoing))| {
            let suffrage = match (incoming, outgoing) {
                (true, _) => Suffrage::Voter,
                (false, true) => Suffrage::Leaving,
                (false, false) => Suffrage::Learner,
            };
            Member { outgoing_voter: outgoing, ..Member::new(NodeId::new(id).unwrap(), suffrage, "").unwrap() }
        });
        let configuration = Configuration::new(ClusterId(1), SessionLimits::default(), members).unwrap();
        Membership::new(EntryId::ZERO, &configuration).unwrap()
    }

    /// More than half of those for whom `votes` holds have reached `value`, by counting.
    fn counted(halves: &[(bool, bool)], reached: &[u64], value: u64, votes: fn(&(bool, bool)) -> bool) -> bool {
        let voters: Vec<bool> =
            halves.iter().zip(reached).filter(|(half, _)| votes(half)).map(|(_, &has)| has >= value).collect();
        voters.iter().filter(|&&yes| yes).count() * 2 > voters.len()
    }

    #[test]
    fn majorities_are_those_of_counting_in_every_small_configuration() {
        let mut cases = 0;
        for shape in 0..4_usize.pow(4) {
            let half = |member: u32| {
                [(true, true), (true, false), (false, true), (false, false)][shape / 4_usize.pow(member) % 4]
            };
            let halves: Vec<_> = (0..4).map(half).collect();
            let joint = halves.iter().any(|half| half.1);
            if !halves.iter().any(|half| half.0) {
                continue;
            }
            let membership = membership(&halves);
            for values in 0..3_u64.pow(4) {
                let reached: Vec<u64> = (0..4).map(|member| values / 3_u64.pow(member) % 3).collect();
                let majority = |value| {
                    counted(&halves, &reached, value, |half| half.0)
                        && (!joint || counted(&halves, &reached, value, |half| half.1))
                };
                let expected = (0..3).filter(|&value| value == 0 || majority(value)).max().unwrap();
                assert_eq!(membership.reached(|position, _| reached[position]), expected, "{halves:?} {reached:?}");
                assert_eq!(membership.agree(|position, _| reached[position] >= 1), majority(1));
                cases += 1;
            }
        }
        assert!(cases > 10_000);
    }

    /// A member of either half or of none, and how far it has come.
    fn member() -> impl Strategy<Value = ((bool, bool), u64)> {
        ((any::<bool>(), any::<bool>()), 0..5_u64)
    }

    proptest! {
        #[test]
        fn majorities_are_those_of_counting_in_larger_configurations(
            mut members in prop::collection::vec(member(), 1..=6),
            whole in any::<bool>(),
        ) {
            if whole {
                members.iter_mut().for_each(|((_, outgoing), _)| *outgoing = false);
            }
            members[0].0.0 = true;
            let (halves, reached): (Vec<_>, Vec<_>) = members.into_iter().unzip();
            let joint = halves.iter().any(|half| half.1);
            let membership = membership(&halves);
            let majority = |value| {
                counted(&halves, &reached, value, |half| half.0)
                    && (!joint || counted(&halves, &reached, value, |half| half.1))
            };
            let expected = (0..5).filter(|&value| value == 0 || majority(value)).max().unwrap();
            prop_assert_eq!(membership.reached(|position, _| reached[position]), expected);
            for value in 1..5 {
                prop_assert_eq!(membership.agree(|position, _| reached[position] >= value), majority(value));
            }
        }
    }

    #[test]
    fn more_members_than_the_program_was_built_for_are_refused() {
        let configuration = crate::configuration::voters(ClusterId(1), 3).unwrap();
        assert_eq!(Membership::<2>::new(EntryId::ZERO, &configuration), Err(TooMany(3)));
    }

    #[test]
    fn witnesses_and_learners_may_not_lead_and_those_that_leave_may() {
        let peer = |suffrage, incoming, outgoing| Peer {
            id: NodeId::new(1).unwrap(),
            added: Index::FIRST,
            suffrage,
            incoming,
            outgoing,
            priority: 0,
        };
        assert!(peer(Suffrage::Voter, true, false).may_lead());
        assert!(peer(Suffrage::Leaving, false, true).may_lead());
        assert!(peer(Suffrage::Learner, false, true).may_lead(), "it is a voter until it has been demoted");
        assert!(!peer(Suffrage::Learner, false, false).may_lead());
        assert!(!peer(Suffrage::Witness, true, true).may_lead());
        assert!(!peer(Suffrage::LeavingWitness, false, true).may_lead());
    }
}
