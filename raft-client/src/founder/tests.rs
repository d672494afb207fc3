//! Founders that are cut off at any message and that run at once, against nodes that do what `setup::step` says.

use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, ClusterKey, Incarnation, NodeId};
use raft_transport_tcp::setup::{self, Creation, SetupReply, SetupRequest, Step};

use super::founding::{Founding, Next, Wanted};
use super::{FoundError, Founded, Standing};

/// A node, which is reached at `h:` and its place in the world.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    storage: Incarnation,
    promised: Option<Creation>,
    member: Option<(ClusterId, NodeId)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct World(Vec<Node>);

impl World {
    /// Nodes whose storages are in another order than their addresses.
    fn new(nodes: u128) -> World {
        let storage = |node: u128| Incarnation((node * 7 + 3) % 11);
        World((0..nodes).map(|node| Node { storage: storage(node), promised: None, member: None }).collect())
    }

    fn ask(&mut self, place: usize, request: &SetupRequest) -> Standing {
        let node = &mut self.0[place];
        if node.member.is_none() {
            match (setup::step(node.storage, node.promised.as_ref(), request), request) {
                (Step::Promise(_), SetupRequest::Promise(creation)) => node.promised = Some(creation.as_ref().clone()),
                (Step::Complete, _) => self.complete(place),
                _ => {}
            }
        }
        let node = &self.0[place];
        let incarnation = node.storage;
        match (&node.member, &node.promised) {
            (Some((cluster, node)), _) => Standing::Member { cluster: *cluster, node: *node },
            (None, Some(creation)) => {
                Standing::Waits(SetupReply::Promised { incarnation, creation: Box::new(creation.clone()) })
            }
            (None, None) => Standing::Waits(SetupReply::Empty { incarnation }),
        }
    }

    fn complete(&mut self, place: usize) {
        let node = &mut self.0[place];
        let creation = node.promised.as_ref().unwrap();
        node.member = Some((creation.cluster(), creation.node(node.storage).unwrap()));
    }

    fn wipe(&mut self, place: usize) {
        let storage = Incarnation(self.0[place].storage.0 + 100);
        self.0[place] = Node { storage, promised: None, member: None };
    }

    fn clusters(&self) -> Vec<ClusterId> {
        let mut clusters: Vec<ClusterId> = self.0.iter().filter_map(|node| Some(node.member?.0)).collect();
        clusters.sort_unstable();
        clusters.dedup();
        clusters
    }

    /// Whoever is a member is one of a cluster that all its members have promised, but for those that were wiped since.
    fn check(&self) {
        for node in self.0.iter().filter(|node| node.member.is_some()) {
            let creation = node.promised.as_ref().unwrap();
            for other in self.0.iter().filter(|other| creation.node(other.storage).is_some()) {
                assert_eq!(other.promised.as_ref(), Some(creation), "{self:?}");
            }
        }
    }
}

/// What a founder is asked for: nodes 1, 2, … at these places of the world. Another number draws another cluster.
#[derive(Clone)]
struct Order {
    number: u128,
    places: Vec<usize>,
    window: u16,
}

impl Order {
    fn new(number: u128, places: &[usize]) -> Order {
        Order { number, places: places.to_vec(), window: 64 }
    }

    fn founder(&self) -> Founder<'_> {
        let members = (1..).zip(&self.places).map(|(id, place)| (NodeId::new(id).unwrap(), format!("h:{place}")));
        let limits = SessionLimits { window: self.window, ..SessionLimits::default() };
        let wanted = Wanted { members: members.collect(), limits, lease: None };
        let drawn = (ClusterId(self.number), ClusterKey(self.number + 1000));
        Founder { founding: Founding::new(wanted, drawn).unwrap(), places: &self.places }
    }
}

struct Founder<'a> {
    founding: Founding,
    places: &'a [usize],
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Arrives,
    Lost,
    AnswerLost,
}

impl Founder<'_> {
    /// One question and its answer; returns the end once it has come.
    fn turn(&mut self, world: &mut World, passage: Passage) -> Option<Result<Founded, FoundError>> {
        match self.founding.next() {
            Next::Done(result) => return Some(result),
            Next::Ask { place, request } => {
                let lost = Standing::Silent("lost".to_owned());
                let heard = match passage {
                    Passage::Arrives => world.ask(self.places[place], &request),
                    Passage::Lost => lost,
                    Passage::AnswerLost => {
                        world.ask(self.places[place], &request);
                        lost
                    }
                };
                world.check();
                self.founding.hear(place, heard);
            }
        }
        None
    }

    fn finish(&mut self, world: &mut World) -> Result<Founded, FoundError> {
        for _ in 0..1000 {
            if let Some(end) = self.turn(world, Passage::Arrives) {
                return end;
            }
        }
        panic!("a founder goes on for ever");
    }
}

fn found(world: &mut World, order: &Order) -> Result<Founded, FoundError> {
    order.founder().finish(world)
}

#[test]
fn a_cluster_is_created_once_and_then_it_exists() {
    let (mut world, order) = (World::new(3), Order::new(1, &[0, 1, 2]));
    assert_eq!(found(&mut world, &order), Ok(Founded::Created(ClusterId(1))));
    assert_eq!(found(&mut world, &Order::new(2, &[0, 1, 2])), Ok(Founded::Existed(ClusterId(1))));
    assert!(world.0.iter().zip(1..).all(|(node, id)| node.member == Some((ClusterId(1), NodeId::new(id).unwrap()))));
    let mut swapped = world.clone();
    assert!(matches!(found(&mut swapped, &Order::new(2, &[1, 0, 2])), Err(FoundError::InTheWay(_))));
    assert_eq!(swapped, world);
}

#[test]
fn cut_at_every_message_and_run_again_it_makes_the_same_cluster() {
    let (first, second) = (Order::new(1, &[0, 1, 2]), Order::new(2, &[0, 1, 2]));
    for cut in 0..9 {
        for lost in [Passage::Lost, Passage::AnswerLost] {
            let (mut world, mut founder) = (World::new(3), first.founder());
            for _ in 0..cut {
                assert_eq!(founder.turn(&mut world, Passage::Arrives), None);
            }
            founder.turn(&mut world, lost);
            let promised = world.0.iter().any(|node| node.promised.is_some());
            let end = found(&mut world, &second).unwrap();
            let wanted = ClusterId(if promised { 1 } else { 2 });
            assert_eq!((end.cluster(), world.clusters()), (wanted, vec![wanted]), "cut at {cut}, {lost:?}");
            // The first one was only slow.
            assert_eq!(founder.finish(&mut world).unwrap().cluster(), wanted, "cut at {cut}, {lost:?}");
        }
    }
}

#[test]
fn questions_and_answers_that_are_lost_are_asked_again_and_change_nothing() {
    for seed in 0..2000u64 {
        let (mut world, order) = (World::new(3), Order::new(1, &[0, 1, 2]));
        let (mut founder, mut chance) = (order.founder(), seed);
        let end = loop {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let passage = [Passage::Arrives, Passage::Lost, Passage::AnswerLost][(chance >> 33) as usize % 3];
            if let Some(end) = founder.turn(&mut world, passage) {
                break end;
            }
        };
        match end {
            Ok(founded) => assert_eq!(founded, Founded::Created(ClusterId(1))),
            Err(FoundError::Unreachable(_)) => assert_eq!(world, World::new(3), "nothing has changed"),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(found(&mut world, &order).unwrap().cluster(), ClusterId(1));
    }
}

/// So many turns of two founders are tried in every order; those after them alternate.
const DEPTH: usize = 13;

/// What is to hold of the nodes, and of what both founders say.
type Judge = dyn Fn(&World, [&Result<Founded, FoundError>; 2]);

/// Lets two founders take their turns in every order; returns how many orders there were.
fn in_every_order(orders: [&Order; 2], nodes: u128, judge: &Judge) -> usize {
    let mut tried = 0;
    // Which founder takes each turn. The next order differs from it in the last turn that it can.
    let mut schedule: Vec<usize> = Vec::new();
    loop {
        let mut world = World::new(nodes);
        let mut founders = orders.map(Order::founder);
        let (mut ends, mut step) = ([None, None], 0);
        while ends.iter().any(Option::is_none) {
            if step == schedule.len() && step < DEPTH {
                schedule.push(0);
            }
            let chosen = schedule.get(step).copied().unwrap_or(step % 2);
            let who = if ends[chosen].is_some() { 1 - chosen } else { chosen };
            if let Some(turn) = schedule.get_mut(step) {
                *turn = who.max(chosen);
            }
            ends[who] = founders[who].turn(&mut world, Passage::Arrives);
            step += 1;
        }
        schedule.truncate(step);
        let [Some(one), Some(other)] = &ends else { unreachable!() };
        judge(&world, [one, other]);
        tried += 1;
        while schedule.last() == Some(&1) {
            schedule.pop();
        }
        match schedule.last_mut() {
            Some(last) => *last = 1,
            None => return tried,
        }
    }
}

#[test]
fn two_at_once_for_the_same_members_make_one_cluster() {
    let orders = [&Order::new(1, &[0, 1]), &Order::new(2, &[0, 1])];
    let tried = in_every_order(orders, 2, &|world, ends| {
        let clusters = world.clusters();
        assert_eq!(clusters.len(), 1, "{world:?}");
        assert!(world.0.iter().all(|node| node.member.is_some()));
        for end in ends {
            assert_eq!(end.as_ref().map(|founded| founded.cluster()), Ok(clusters[0]));
        }
    });
    assert!(tried > 1000, "{tried}");
}

#[test]
fn two_at_once_for_members_that_overlap_make_one_cluster() {
    for (one, other) in [(&[0, 1][..], &[1, 2][..]), (&[0, 1], &[1, 0]), (&[0], &[0, 1]), (&[1, 2], &[0, 2])] {
        let orders = [&Order::new(1, one), &Order::new(2, other)];
        in_every_order(orders, 3, &|world, ends| {
            let clusters = world.clusters();
            assert_eq!(clusters.len(), 1, "they share a node, and one of them gets it: {world:?}: {ends:?}");
            let created = ends.iter().filter_map(|end| end.as_ref().ok()).map(|founded| founded.cluster());
            assert!(created.clone().count() > 0 && created.clone().all(|cluster| cluster == clusters[0]), "{ends:?}");
            let failed = ends.iter().filter_map(|end| end.as_ref().err());
            assert!(failed.clone().all(|error| matches!(error, FoundError::InTheWay(_))), "{ends:?}");
        });
    }
}

#[test]
fn a_wiped_member_is_not_created_again_and_whoever_holds_data_is_named() {
    for wiped in [&[2][..], &[1, 2]] {
        let (mut world, order) = (World::new(3), Order::new(1, &[0, 1, 2]));
        found(&mut world, &order).unwrap();
        wiped.iter().for_each(|&place| world.wipe(place));
        let before = world.clone();
        let Err(FoundError::InTheWay(nodes)) = found(&mut world, &Order::new(2, &[0, 1, 2])) else { panic!() };
        assert_eq!(world, before, "nothing has changed");
        assert_eq!(nodes.len(), 3 - wiped.len());
        assert_eq!(nodes[0].to_string(), format!("1=h:0: it is node 1 of cluster {}", ClusterId(1)));
    }
}

#[test]
fn a_promise_is_completed_by_no_other_members_or_limits() {
    let (mut world, order) = (World::new(3), Order::new(1, &[0, 1, 2]));
    let mut founder = order.founder();
    while world.0.iter().all(|node| node.promised.is_none()) {
        founder.turn(&mut world, Passage::Arrives);
    }
    let before = world.clone();
    let promised = world.0.iter().position(|node| node.promised.is_some()).unwrap();
    for other in
        [Order { window: 7, ..Order::new(2, &[0, 1, 2]) }, Order::new(2, &[2, 1, 0]), Order::new(2, &[promised])]
    {
        let Err(FoundError::InTheWay(nodes)) = found(&mut world, &other) else { panic!() };
        assert!(nodes.iter().any(|node| node.why.contains("has promised to be created as one of")), "{nodes:?}");
        assert_eq!(world, before);
    }
    // A node that was wiped meanwhile is not the one that was promised.
    let wiped = (0..3).find(|place| world.0[*place].promised.is_none()).unwrap();
    world.wipe(wiped);
    assert!(matches!(found(&mut world, &order), Err(FoundError::InTheWay(_))));
}

#[test]
fn a_node_that_does_not_answer_is_named_and_one_that_is_named_twice_is_found_out() {
    let (mut world, order) = (World::new(3), Order::new(1, &[0, 1, 2]));
    let mut founder = order.founder();
    let end = loop {
        let passage = match founder.founding.next() {
            Next::Ask { place: 1, .. } => Passage::Lost,
            _ => Passage::Arrives,
        };
        if let Some(end) = founder.turn(&mut world, passage) {
            break end;
        }
    };
    let Err(FoundError::Unreachable(nodes)) = end else { panic!("{end:?}") };
    assert_eq!((nodes.len(), nodes[0].node.as_str(), &world), (1, "2=h:1", &World::new(3)));
    let twice = found(&mut world, &Order::new(1, &[0, 1, 0]));
    assert!(matches!(twice, Err(FoundError::SameNode { .. })), "{twice:?}");

    let mut founder = order.founder();
    while world.0.iter().all(|node| node.promised.is_none()) {
        founder.turn(&mut world, Passage::Arrives);
    }
    founder.founding.give_up();
    let Next::Done(Err(error @ FoundError::Unfinished { .. })) = founder.founding.next() else { panic!() };
    assert!(error.to_string().contains("run it again with the same members"), "{error}");
}
