//! What a founder does, without I/O: whom it asks what next, and what it makes of the answers.

use std::fmt;

use raft_core::configuration::{Configuration, Lease, Member};
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, ClusterKey, Incarnation, NodeId};
use raft_transport_tcp::setup::{Creation, SetupReply, SetupRequest};

use super::{FoundError, Founded, InTheWay, Standing};

/// How often the nodes are looked at again when what they say does not fit together: another founder may be at work.
const LOOKS_MAX: u32 = 5;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask the node at that place of the list.
    Ask { place: usize, request: SetupRequest },
    /// Nothing.
    Done(Result<Founded, FoundError>),
}

/// One cluster in the making.
#[derive(Debug)]
pub(crate) struct Founding {
    wanted: Wanted,
    drawn: (ClusterId, ClusterKey),
    /// What each node said, in the order of the list; `None` until it is asked in this look.
    heard: Vec<Option<Standing>>,
    looks: u32,
    /// A pause is due before the next question, since another founder may be at work.
    pause: bool,
    stage: Stage,
    /// Whether a node has been asked to promise something.
    begun: bool,
}

/// What the cluster is to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) members: Vec<(NodeId, String)>,
    pub(crate) limits: SessionLimits,
    pub(crate) lease: Option<Lease>,
}

#[derive(Debug)]
enum Stage {
    /// All nodes are asked what they are.
    Looks,
    /// They promise the creation, in the order of the places.
    Promises(Creation, Vec<usize>),
    /// All have promised it; they complete it.
    Completes(Creation, Vec<usize>),
    Done(Result<Founded, FoundError>),
}

impl Wanted {
    /// The creation with those storages, in the order of the list.
    ///
    /// # Errors
    /// The members or the limits are not valid.
    fn creation(&self, cluster: ClusterId, key: ClusterKey, storages: &[Incarnation]) -> Result<Creation, FoundError> {
        let mut members = Vec::new();
        for ((id, address), incarnation) in self.members.iter().zip(storages) {
            members.push(Member { incarnation: Some(*incarnation), ..Member::voter(*id, address)? });
        }
        let mut configuration = Configuration::new(cluster, self.limits, members)?;
        if let Some(lease) = self.lease {
            configuration = configuration.with_lease(lease)?;
        }
        Ok(Creation { key, configuration })
    }
}

impl Founding {
    /// A cluster with these members; `drawn` are random bits, used if none of the nodes has promised a creation.
    ///
    /// # Errors
    /// [`FoundError::Configuration`] if the members or limits are not valid.
    pub(crate) fn new(wanted: Wanted, drawn: (ClusterId, ClusterKey)) -> Result<Founding, FoundError> {
        wanted.creation(drawn.0, drawn.1, &vec![Incarnation(0); wanted.members.len()])?;
        let heard = vec![None; wanted.members.len()];
        Ok(Founding { wanted, drawn, heard, looks: 1, pause: false, stage: Stage::Looks, begun: false })
    }

    /// What is to be done next.
    pub(crate) fn next(&self) -> Next {
        match &self.stage {
            Stage::Done(result) => Next::Done(result.clone()),
            Stage::Looks => {
                let place =
                    self.heard.iter().position(Option::is_none).expect("a look at all nodes ends by a decision");
                Next::Ask { place, request: SetupRequest::Ask }
            }
            Stage::Promises(creation, left) => {
                Next::Ask { place: first(left), request: SetupRequest::Promise(Box::new(creation.clone())) }
            }
            Stage::Completes(creation, left) => {
                Next::Ask { place: first(left), request: SetupRequest::Complete(creation.cluster()) }
            }
        }
    }

    /// Takes in what came of it.
    pub(crate) fn hear(&mut self, place: usize, heard: Standing) {
        if let Some(slot) = self.heard.get_mut(place) {
            *slot = Some(heard.clone());
        }
        match std::mem::replace(&mut self.stage, Stage::Looks) {
            Stage::Looks if self.heard.iter().any(Option::is_none) => {}
            Stage::Looks => self.decide(),
            Stage::Promises(creation, mut left) => {
                self.begun = true;
                match heard {
                    Standing::Waits(SetupReply::Promised { creation: promised, .. }) if *promised == creation => {
                        left.remove(0);
                        self.stage = match left.is_empty() {
                            true => Stage::Completes(creation.clone(), self.in_order(&creation)),
                            false => Stage::Promises(creation, left),
                        };
                    }
                    // Its answer may have been lost. Who asks too long gives up.
                    Standing::Silent(_) => self.stage = Stage::Promises(creation, left),
                    // Another founder was faster, or the node is another one by now.
                    Standing::Waits(_) | Standing::Member { .. } => self.look_again(),
                }
            }
            Stage::Completes(creation, mut left) => match heard {
                Standing::Member { cluster, node }
                    if cluster == creation.cluster() && Some(node) == self.id_at(place) =>
                {
                    left.remove(0);
                    self.stage = match left.is_empty() {
                        true => Stage::Done(Ok(Founded::Created(cluster))),
                        false => Stage::Completes(creation, left),
                    };
                }
                Standing::Waits(SetupReply::Promised { creation: promised, .. }) if *promised == creation => {
                    self.stage = Stage::Completes(creation, left);
                }
                Standing::Silent(_) => self.stage = Stage::Completes(creation, left),
                Standing::Waits(_) | Standing::Member { .. } => self.look_again(),
            },
            done @ Stage::Done(_) => self.stage = done,
        }
    }

    /// Nobody waits any longer.
    pub(crate) fn give_up(&mut self) {
        let silent = |(place, heard): (usize, &Option<Standing>)| match heard {
            Some(Standing::Silent(why)) => Some(self.in_the_way(place, why.clone())),
            None => Some(self.in_the_way(place, "it was not asked in time".to_owned())),
            Some(_) => None,
        };
        let silent: Vec<InTheWay> = self.heard.iter().enumerate().filter_map(silent).collect();
        let error = match &self.stage {
            Stage::Done(_) => return,
            Stage::Looks if !self.begun => FoundError::Unreachable(silent),
            Stage::Looks => FoundError::Unfinished { cluster: None, nodes: silent },
            Stage::Promises(creation, _) | Stage::Completes(creation, _) => {
                FoundError::Unfinished { cluster: Some(creation.cluster()), nodes: silent }
            }
        };
        self.stage = Stage::Done(Err(error));
    }

    /// All nodes have been looked at: decides what to do.
    fn decide(&mut self) {
        let said: Vec<Standing> = self.heard.iter().flatten().cloned().collect();
        let silent = said.iter().enumerate().filter_map(|(place, heard)| match heard {
            Standing::Silent(why) => Some(self.in_the_way(place, why.clone())),
            _ => None,
        });
        let silent: Vec<InTheWay> = silent.collect();
        if !silent.is_empty() && self.looks < LOOKS_MAX {
            // Its port is closed for a moment when a node becomes a member.
            let silent = self.heard.iter_mut().filter(|heard| matches!(heard, Some(Standing::Silent(_))));
            silent.for_each(|heard| *heard = None);
            return self.begin_look();
        }
        if !silent.is_empty() {
            return self.end(if self.begun {
                FoundError::Unfinished { cluster: None, nodes: silent }
            } else {
                FoundError::Unreachable(silent)
            });
        }
        if said.iter().all(|heard| matches!(heard, Standing::Member { .. })) && self.in_the_way_of(None).is_empty() {
            let cluster = said.iter().find_map(|heard| match heard {
                Standing::Member { cluster, .. } => Some(*cluster),
                _ => None,
            });
            return self.stage = Stage::Done(cluster.map(Founded::Existed).ok_or(FoundError::Empty));
        }
        match self.agree(&said) {
            Ok(creation) => {
                let in_the_way = self.in_the_way_of(Some(&creation));
                if in_the_way.is_empty() { self.go_on(creation) } else { self.refuse(in_the_way) }
            }
            Err(error) => self.end(error),
        }
    }

    /// The creation that is to be made: the one that was promised, or a new one.
    fn agree(&self, said: &[Standing]) -> Result<Creation, FoundError> {
        let promised = said.iter().find_map(|heard| match heard {
            Standing::Waits(SetupReply::Promised { creation, .. }) => Some(creation.as_ref().clone()),
            _ => None,
        });
        if let Some(creation) = promised {
            return Ok(creation);
        }
        let storages = said.iter().map(|heard| match heard {
            Standing::Waits(SetupReply::Empty { incarnation } | SetupReply::Promised { incarnation, .. }) => {
                *incarnation
            }
            _ => Incarnation(0),
        });
        let storages: Vec<Incarnation> = storages.collect();
        let twice = storages.iter().enumerate().find_map(|(place, storage)| {
            let before = storages.iter().take(place).position(|other| other == storage)?;
            matches!(said.get(place), Some(Standing::Waits(_))).then_some((before, place))
        });
        if let Some((one, other)) = twice {
            return Err(FoundError::SameNode { one: self.name(one), other: self.name(other) });
        }
        self.wanted.creation(self.drawn.0, self.drawn.1, &storages)
    }

    /// The nodes that keep the creation from being made. Without one: those that are not members of one cluster, as they are
    /// called here.
    fn in_the_way_of(&self, creation: Option<&Creation>) -> Vec<InTheWay> {
        let first = self.heard.iter().flatten().find_map(|heard| match heard {
            Standing::Member { cluster, .. } => Some(*cluster),
            _ => None,
        });
        let cluster = creation.map(Creation::cluster).or(first);
        // While one has promised nothing, none can have completed the creation.
        let empty = |heard: &Option<Standing>| matches!(heard, Some(Standing::Waits(SetupReply::Empty { .. })));
        let may_be_complete = !self.heard.iter().any(empty);
        let storage = |place: usize| match self.heard.get(place) {
            Some(Some(Standing::Waits(
                SetupReply::Empty { incarnation } | SetupReply::Promised { incarnation, .. },
            ))) => Some(*incarnation),
            _ => None,
        };
        let mut found = Vec::new();
        for (place, heard) in self.heard.iter().enumerate() {
            let why = match heard {
                Some(Standing::Member { cluster: of, node }) => {
                    let fits = Some(*of) == cluster && Some(*node) == self.id_at(place) && may_be_complete;
                    (!fits).then(|| format!("it is node {node} of cluster {of}"))
                }
                Some(Standing::Waits(SetupReply::Promised { creation: other, .. }))
                    if creation != Some(other.as_ref()) || !self.fits(other, place, storage(place)) =>
                {
                    Some(format!("it has promised to be created as one of {}", described(other)))
                }
                Some(Standing::Waits(SetupReply::Empty { incarnation }))
                    if creation.is_some_and(|creation| creation.node(*incarnation) != self.id_at(place)) =>
                {
                    Some("it has another storage than the one that the others have promised to be created with".into())
                }
                _ => None,
            };
            found.extend(why.map(|why| self.in_the_way(place, why)));
        }
        found
    }

    /// Whether a creation that was promised is the one that is wanted.
    fn fits(&self, creation: &Creation, place: usize, storage: Option<Incarnation>) -> bool {
        let named = |(id, _): &(NodeId, String)| creation.configuration.member(*id)?.incarnation;
        let storages: Option<Vec<Incarnation>> = self.wanted.members.iter().map(named).collect();
        let same = storages.and_then(|storages| self.wanted.creation(creation.cluster(), creation.key, &storages).ok());
        let own = storage.is_some_and(|storage| creation.node(storage) == self.id_at(place));
        own && same.as_ref() == Some(creation)
    }

    fn go_on(&mut self, creation: Creation) {
        let order = self.in_order(&creation);
        let has_not_promised =
            |place: &usize| matches!(self.heard.get(*place), Some(Some(Standing::Waits(SetupReply::Empty { .. }))));
        let left: Vec<usize> = order.iter().copied().filter(has_not_promised).collect();
        let is_member = |place: &usize| matches!(self.heard.get(*place), Some(Some(Standing::Member { .. })));
        self.stage = match left.is_empty() {
            true => Stage::Completes(creation, order.into_iter().filter(|place| !is_member(place)).collect()),
            false => Stage::Promises(creation, left),
        };
    }

    /// The places of the list in the order in which all founders go through the nodes.
    fn in_order(&self, creation: &Creation) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.wanted.members.len()).collect();
        let storage = |place: usize| {
            let id = self.id_at(place)?;
            creation.configuration.member(id)?.incarnation
        };
        places.sort_by_key(|place| storage(*place));
        places
    }

    /// What does not fit may be the work of another founder under way: it is looked at again before it is said.
    fn refuse(&mut self, in_the_way: Vec<InTheWay>) {
        if self.looks < LOOKS_MAX { self.look_again() } else { self.end(FoundError::InTheWay(in_the_way)) }
    }

    fn look_again(&mut self) {
        if self.looks >= LOOKS_MAX {
            let changed = |place| self.in_the_way(place, "it changes while it is looked at; try again".to_owned());
            return self.end(FoundError::InTheWay((0..self.heard.len()).map(changed).collect()));
        }
        self.heard.iter_mut().for_each(|heard| *heard = None);
        self.begin_look();
    }

    fn begin_look(&mut self) {
        self.looks += 1;
        self.pause = true;
        self.stage = Stage::Looks;
    }

    /// Whether a pause is to be made before the next question. Says so once.
    pub(crate) fn takes_pause(&mut self) -> bool {
        std::mem::take(&mut self.pause)
    }

    fn end(&mut self, error: FoundError) {
        self.stage = Stage::Done(Err(error));
    }

    fn id_at(&self, place: usize) -> Option<NodeId> {
        self.wanted.members.get(place).map(|(id, _)| *id)
    }

    fn name(&self, place: usize) -> String {
        self.wanted.members.get(place).map(|(id, address)| format!("{id}={address}")).unwrap_or_default()
    }

    fn in_the_way(&self, place: usize, why: String) -> InTheWay {
        InTheWay { node: self.name(place), why }
    }
}

fn first(left: &[usize]) -> usize {
    *left.first().expect("a stage without nodes left has ended")
}

/// A creation in words.
fn described(creation: &Creation) -> impl fmt::Display {
    let members = creation.configuration.members().iter();
    let members: Vec<String> = members.map(|member| format!("{}={}", member.id, member.address)).collect();
    format!("cluster {}: {}", creation.cluster(), members.join(" "))
}
