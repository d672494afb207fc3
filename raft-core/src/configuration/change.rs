//! How a configuration follows from another: by changes that are all made at once, and, where
//! they touch who votes, in two steps (joint consensus; dissertation, section 4.3).
//!
//! The first step is a configuration in which the old voters and the new ones both have to agree;
//! the second, which a leader appends by itself once the first is committed, leaves the old ones
//! behind. Nothing else may be changed in between.

use heapless::String;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Configuration, ConfigurationError, Member, Suffrage};
use crate::types::{Incarnation, Index, NodeId};

/// One change of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// A new member: a [`Suffrage::Learner`], or one that is to vote when it has caught up: a
    /// [`Suffrage::Joining`] or a [`Suffrage::JoiningWitness`] (which is what a witness is added as).
    Add(Member),
    /// A learner is to become a voter, at once if it has caught up, and else as soon as it has.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A member leaves.
    Remove(NodeId),
    /// It is reached elsewhere.
    Move {
        /// The member.
        id: NodeId,
        /// Where it is reached from now on.
        address: String<{ super::ADDRESS_BYTES_MAX }>,
    },
    /// How much it is preferred as leader.
    Prioritize {
        /// The member.
        id: NodeId,
        /// Higher ones are preferred.
        priority: u8,
    },
    /// Its storage is known by that life from now on, and no other is let in under its id. Leaders
    /// do this for members that were added without one.
    Register {
        /// The member.
        id: NodeId,
        /// The life of its storage.
        incarnation: Incarnation,
    },
}

/// Why a configuration cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The last change has not come to its end.
    #[error("another change of the members is under way; try again when it has ended")]
    UnderWay,
    /// There is no such member.
    #[error("node {id} is no member; look at the list of members")]
    NotMember {
        /// The node.
        id: NodeId,
    },
    /// There is one already.
    #[error("node {id} is a member already; a new node needs an id that was never used")]
    AlreadyMember {
        /// The node.
        id: NodeId,
    },
    /// Nobody would vote, or only witnesses.
    #[error("the last voter cannot go; add another one first")]
    LastVoter,
    /// Too few voters could lead.
    #[error("as many voters would be witnesses as not, or more; add voters that can lead first")]
    TooManyWitnesses,
    /// It waits to become a witness, and there would be too many.
    #[error(
        "node {id} could never become a witness: as many voters would be witnesses as not; add voters that can lead first"
    )]
    NeverPromoted {
        /// The node.
        id: NodeId,
    },
    /// A witness has no state to go on with as something else.
    #[error("node {id} is a witness and stays one; remove it and add a new node")]
    Witness {
        /// The node.
        id: NodeId,
    },
    /// It votes already, or is not a voter that could be made a learner.
    #[error("node {id} is that already")]
    Unchanged {
        /// The node.
        id: NodeId,
    },
    /// New members begin as learners.
    #[error("node {id} cannot vote before it has caught up; add it as one that is joining")]
    NotCaughtUp {
        /// The node.
        id: NodeId,
    },
    /// Too many members, in both halves of the joint configuration together.
    #[error("the cluster would have more than {most} members, those that leave included; change fewer at once")]
    TooManyMembers {
        /// The most there can be.
        most: u32,
    },
    /// A majority of the new voters does not answer.
    #[error(
        "of {voters} voters then only {reachable} answer, and the cluster would stand still; force it if it must be"
    )]
    Unreachable {
        /// How many would vote.
        voters: u32,
        /// How many of them were heard of lately.
        reachable: u32,
    },
}

impl Configuration {
    /// This configuration with all `changes` made, for the entry `index`. If they touch who votes, it is a joint one.
    /// `caught_up` tells which learners may vote at once.
    ///
    /// # Errors
    /// The first change that cannot be made. No other was made either.
    pub fn change(
        &self,
        index: Index,
        changes: &[MemberChange],
        caught_up: impl Fn(NodeId) -> bool,
    ) -> Result<Configuration, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::UnderWay);
        }
        let mut next = self.clone();
        for member in &mut next.members {
            member.outgoing_voter = member.votes();
        }
        for change in changes {
            next.make(index, change, &caught_up)?;
        }
        next.members.sort_unstable_by_key(|member| member.id);
        if next.members.iter().all(|member| member.votes() == member.outgoing_voter) {
            for member in &mut next.members {
                member.outgoing_voter = false;
            }
        }
        next.check().map_err(|error| match error {
            ConfigurationError::NoVoter => ChangeError::LastVoter,
            ConfigurationError::TooManyWitnesses => ChangeError::TooManyWitnesses,
            other => unreachable!("members are added once and leave only as voters: {other}"),
        })?;
        let added = |change: &MemberChange| match change {
            MemberChange::Add(member)
                if next.member(member.id).is_some_and(|member| member.suffrage == Suffrage::JoiningWitness) =>
            {
                Some(member.id)
            }
            _ => None,
        };
        match changes.iter().rev().find_map(added) {
            Some(id) if next.with_all_promoted().check().is_err() => Err(ChangeError::NeverPromoted { id }),
            _ => Ok(next),
        }
    }

    /// As it would be if all that wait to be promoted were.
    fn with_all_promoted(&self) -> Configuration {
        let mut promoted = self.clone();
        for member in &mut promoted.members {
            member.suffrage = match member.suffrage {
                Suffrage::Joining => Suffrage::Voter,
                Suffrage::JoiningWitness => Suffrage::Witness,
                other => other,
            };
        }
        promoted
    }

    fn make(
        &mut self,
        index: Index,
        change: &MemberChange,
        caught_up: impl Fn(NodeId) -> bool,
    ) -> Result<(), ChangeError> {
        match change {
            MemberChange::Add(member) => return self.add(index, member),
            MemberChange::Remove(id) => return self.remove(*id),
            MemberChange::Promote(id) => {
                let member = self.changed(*id)?;
                member.suffrage = match member.suffrage {
                    Suffrage::Learner | Suffrage::Joining if caught_up(*id) => Suffrage::Voter,
                    Suffrage::Learner => Suffrage::Joining,
                    Suffrage::Joining | Suffrage::Voter => return Err(ChangeError::Unchanged { id: *id }),
                    Suffrage::JoiningWitness if caught_up(*id) => Suffrage::Witness,
                    Suffrage::JoiningWitness => return Err(ChangeError::Unchanged { id: *id }),
                    Suffrage::Witness => return Err(ChangeError::Witness { id: *id }),
                    Suffrage::Leaving | Suffrage::LeavingWitness => return Err(ChangeError::NotMember { id: *id }),
                };
            }
            MemberChange::Demote(id) => {
                let member = self.changed(*id)?;
                member.suffrage = match member.suffrage {
                    Suffrage::Voter | Suffrage::Joining => Suffrage::Learner,
                    Suffrage::Learner => return Err(ChangeError::Unchanged { id: *id }),
                    Suffrage::Witness | Suffrage::JoiningWitness => return Err(ChangeError::Witness { id: *id }),
                    Suffrage::Leaving | Suffrage::LeavingWitness => return Err(ChangeError::NotMember { id: *id }),
                };
            }
            MemberChange::Move { id, address } => self.changed(*id)?.address = address.clone(),
            MemberChange::Prioritize { id, priority } => self.changed(*id)?.priority = *priority,
            MemberChange::Register { id, incarnation } => self.changed(*id)?.incarnation = Some(*incarnation),
        }
        Ok(())
    }

    fn changed(&mut self, id: NodeId) -> Result<&mut Member, ChangeError> {
        self.members.iter_mut().find(|member| member.id == id).ok_or(ChangeError::NotMember { id })
    }

    fn add(&mut self, index: Index, member: &Member) -> Result<(), ChangeError> {
        let id = member.id;
        if self.member(id).is_some() {
            return Err(ChangeError::AlreadyMember { id });
        }
        let suffrage = match member.suffrage {
            Suffrage::Learner | Suffrage::Joining | Suffrage::JoiningWitness => member.suffrage,
            // Until it has caught up, its vote could only be missed.
            Suffrage::Witness => Suffrage::JoiningWitness,
            Suffrage::Voter | Suffrage::Leaving | Suffrage::LeavingWitness => {
                return Err(ChangeError::NotCaughtUp { id });
            }
        };
        let most = u32::try_from(super::MEMBERS_MAX).unwrap_or(u32::MAX);
        let member = Member { outgoing_voter: false, added: index, suffrage, ..member.clone() };
        self.members.push(member).map_err(|_| ChangeError::TooManyMembers { most })
    }

    fn remove(&mut self, id: NodeId) -> Result<(), ChangeError> {
        let member = self.changed(id)?;
        match member.suffrage {
            Suffrage::Leaving | Suffrage::LeavingWitness => return Err(ChangeError::NotMember { id }),
            // It votes in the configuration being left, whatever the same call made of it before.
            Suffrage::Witness if member.outgoing_voter => member.suffrage = Suffrage::LeavingWitness,
            _ if member.outgoing_voter => member.suffrage = Suffrage::Leaving,
            _ => self.members.retain(|member| member.id != id),
        }
        Ok(())
    }

    /// What follows a joint configuration: the old voters are left behind.
    #[must_use]
    pub fn leave(&self) -> Configuration {
        let mut next = self.clone();
        next.members.retain(|member| !member.is_leaving());
        for member in &mut next.members {
            member.outgoing_voter = false;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::super::voters;
    use super::*;
    use crate::types::ClusterId;

    fn id(node: u64) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn add(node: u64, suffrage: Suffrage) -> MemberChange {
        MemberChange::Add(Member::new(id(node), suffrage, "").unwrap())
    }

    fn shape(configuration: &Configuration) -> Vec<(u64, Suffrage, bool)> {
        let members = configuration.members().iter();
        members.map(|member| (member.id.get(), member.suffrage, member.outgoing_voter)).collect()
    }

    fn change(from: &Configuration, changes: &[MemberChange]) -> Result<Configuration, ChangeError> {
        from.change(Index(9), changes, |node| node.get() < 10)
    }

    #[test]
    fn who_could_never_become_a_witness_is_refused_when_it_is_added() {
        let (one, three) = (voters(ClusterId(1), 1).unwrap(), voters(ClusterId(1), 3).unwrap());
        let refused = Err(ChangeError::NeverPromoted { id: id(2) });
        assert_eq!(change(&one, &[add(2, Suffrage::Witness)]), refused, "one of two voters would be a witness");
        let with_a_voter = [add(2, Suffrage::JoiningWitness), add(3, Suffrage::Joining)];
        assert!(change(&one, &with_a_voter).is_ok(), "a voter that joins too leads if need be");
        let first = change(&three, &[add(4, Suffrage::Witness)]).unwrap();
        let second = change(&first, &[add(5, Suffrage::Witness)]).unwrap();
        let third = change(&second, &[add(6, Suffrage::Witness)]);
        assert_eq!(third, Err(ChangeError::NeverPromoted { id: id(6) }), "those that wait count too");
    }

    #[test]
    fn several_join_and_leave_at_once_in_two_steps() {
        let old = voters(ClusterId(1), 3).unwrap();
        let with_learners = change(&old, &[add(4, Suffrage::Learner), add(5, Suffrage::Joining)]).unwrap();
        assert!(!with_learners.is_joint(), "learners change no vote");
        let all = [MemberChange::Promote(id(4)), MemberChange::Promote(id(5)), MemberChange::Remove(id(1))];
        let joint = change(&with_learners, &all).unwrap();
        let (voter, leaving) = (Suffrage::Voter, Suffrage::Leaving);
        let expected = [(1, leaving, true), (2, voter, true), (3, voter, true), (4, voter, false), (5, voter, false)];
        assert_eq!(shape(&joint), expected);
        assert_eq!(change(&joint, &[]), Err(ChangeError::UnderWay));
        let expected = [(2, voter, false), (3, voter, false), (4, voter, false), (5, voter, false)];
        assert_eq!(shape(&joint.leave()), expected);
    }

    #[test]
    fn who_has_not_caught_up_joins_later() {
        let old = voters(ClusterId(1), 1).unwrap();
        let learner = change(&old, &[add(11, Suffrage::Learner)]).unwrap();
        let joining = change(&learner, &[MemberChange::Promote(id(11))]).unwrap();
        assert_eq!(shape(&joining), [(1, Suffrage::Voter, false), (11, Suffrage::Joining, false)]);
        assert_eq!(change(&joining, &[MemberChange::Promote(id(11))]), Err(ChangeError::Unchanged { id: id(11) }));
        let joint = joining.change(Index(10), &[MemberChange::Promote(id(11))], |_| true).unwrap();
        assert_eq!(shape(&joint), [(1, Suffrage::Voter, true), (11, Suffrage::Voter, false)]);
    }

    #[test]
    fn a_voter_that_becomes_a_learner_votes_until_the_second_step() {
        let old = voters(ClusterId(1), 2).unwrap();
        let joint = change(&old, &[MemberChange::Demote(id(1))]).unwrap();
        assert_eq!(shape(&joint), [(1, Suffrage::Learner, true), (2, Suffrage::Voter, true)]);
        assert_eq!(shape(&joint.leave()), [(1, Suffrage::Learner, false), (2, Suffrage::Voter, false)]);
    }

    #[test]
    fn a_voter_that_is_demoted_and_removed_at_once_votes_until_the_second_step() {
        let old = voters(ClusterId(1), 2).unwrap();
        let joint = change(&old, &[MemberChange::Demote(id(1)), MemberChange::Remove(id(1))]).unwrap();
        assert_eq!(shape(&joint), [(1, Suffrage::Leaving, true), (2, Suffrage::Voter, true)]);
        assert_eq!(shape(&joint.leave()), [(2, Suffrage::Voter, false)]);
    }

    #[test]
    fn any_changes_in_any_order_make_a_valid_configuration_or_are_refused() {
        let start = voters(ClusterId(1), 2).unwrap();
        let start = change(&start, &[add(3, Suffrage::Learner), add(4, Suffrage::Witness)]).unwrap();
        let some = [2, 3, 4, 5].map(|node| {
            let (promote, demote) = (MemberChange::Promote(id(node)), MemberChange::Demote(id(node)));
            let (joining, witness) = (add(node, Suffrage::Joining), add(node, Suffrage::Witness));
            [MemberChange::Remove(id(node)), promote, demote, joining, witness]
        });
        let some: Vec<MemberChange> = some.into_iter().flatten().collect();
        let mut made = 0;
        for first in &some {
            for second in &some {
                for third in &some {
                    // Invalid ones would be found, and panicked on, by the call itself.
                    made += usize::from(change(&start, &[first.clone(), second.clone(), third.clone()]).is_ok());
                }
            }
        }
        assert!(made > 300, "{made}");
    }

    #[test]
    fn a_learner_that_is_promoted_and_removed_at_once_is_gone() {
        let old = change(&voters(ClusterId(1), 2).unwrap(), &[add(3, Suffrage::Learner)]).unwrap();
        let next = change(&old, &[MemberChange::Promote(id(3)), MemberChange::Remove(id(3))]).unwrap();
        assert_eq!(shape(&next), [(1, Suffrage::Voter, false), (2, Suffrage::Voter, false)]);
    }

    #[test]
    fn changes_that_make_no_sense_are_refused_by_name() {
        let old = voters(ClusterId(1), 2).unwrap();
        let refuse = |changes: &[MemberChange]| change(&old, changes).unwrap_err();
        assert_eq!(refuse(&[MemberChange::Remove(id(7))]), ChangeError::NotMember { id: id(7) });
        assert_eq!(refuse(&[add(2, Suffrage::Learner)]), ChangeError::AlreadyMember { id: id(2) });
        assert_eq!(refuse(&[add(3, Suffrage::Voter)]), ChangeError::NotCaughtUp { id: id(3) });
        assert_eq!(refuse(&[MemberChange::Promote(id(1))]), ChangeError::Unchanged { id: id(1) });
        let twice = [MemberChange::Remove(id(1)), MemberChange::Remove(id(1))];
        assert_eq!(refuse(&twice), ChangeError::NotMember { id: id(1) });
        let all = [MemberChange::Remove(id(1)), MemberChange::Remove(id(2))];
        assert_eq!(refuse(&all), ChangeError::LastVoter);
        let nobody = [add(3, Suffrage::Witness), MemberChange::Remove(id(1)), MemberChange::Demote(id(2))];
        assert_eq!(refuse(&nobody), ChangeError::LastVoter);
        let many: Vec<_> = (3..20).map(|node| add(node, Suffrage::Learner)).collect();
        assert_eq!(refuse(&many), ChangeError::TooManyMembers { most: 16 });
        let joining = change(&old, &[add(3, Suffrage::Witness)]).unwrap();
        assert_eq!(joining.member(id(3)).unwrap().suffrage, Suffrage::JoiningWitness);
        let witness = change(&joining, &[MemberChange::Promote(id(3))]).unwrap().leave();
        assert_eq!(change(&witness, &[MemberChange::Promote(id(3))]), Err(ChangeError::Witness { id: id(3) }));
        assert_eq!(change(&witness, &[MemberChange::Remove(id(1))]), Err(ChangeError::TooManyWitnesses));
        let waits = change(&old, &[add(11, Suffrage::Witness)]).unwrap();
        assert_eq!(change(&waits, &[MemberChange::Promote(id(11))]), Err(ChangeError::Unchanged { id: id(11) }));
        // Whatever it was elsewhere: who is added had no vote before.
        let added = Member { outgoing_voter: true, ..Member::new(id(3), Suffrage::Learner, "").unwrap() };
        assert!(!change(&old, &[MemberChange::Add(added)]).unwrap().is_joint());
    }

    #[test]
    fn what_touches_no_vote_takes_one_step() {
        let old = voters(ClusterId(1), 2).unwrap();
        let changes = [
            MemberChange::Move { id: id(1), address: "b:2".try_into().unwrap() },
            MemberChange::Prioritize { id: id(2), priority: 9 },
            MemberChange::Register { id: id(2), incarnation: Incarnation(5) },
        ];
        let next = change(&old, &changes).unwrap();
        assert!(!next.is_joint());
        assert_eq!(next.member(id(1)).unwrap().address, "b:2");
        let second = next.member(id(2)).unwrap();
        assert_eq!((second.priority, second.incarnation), (9, Some(Incarnation(5))));
    }
}
