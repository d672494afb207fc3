//! Exploring a space, breadth first.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::met::Met;
use crate::properties;
use crate::seen::{EVENTS, Event};
use crate::setup::Setup;
use crate::space::Space;
use crate::world::{Action, Run, World};

/// How long to explore.
#[derive(Clone)]
pub struct Effort {
    /// Follow the ways on from so many states at most, the nearest ones.
    pub states_max: u64,
    /// By so many threads.
    pub threads: usize,
    /// Until this property is found violated, rather than any.
    pub until: Option<&'static str>,
    /// The states met in other spaces, to which those of this one are added.
    pub met: Arc<Met>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The space's name.
    pub space: &'static str,
    /// States looked at, all of them different.
    pub states: u64,
    /// Those of them that were not met in another space before.
    pub new: u64,
    /// Ways from one state to another that were tried.
    pub transitions: u64,
    /// Steps to the farthest state.
    pub depth: usize,
    /// Whether these are all the states of the space.
    pub complete: bool,
    /// How often each event was seen.
    pub seen: Vec<(Event, u64)>,
    /// The properties that do not hold, with what leads there.
    pub violations: Vec<(&'static str, Vec<String>)>,
    /// How long it took.
    pub took: Duration,
}

/// A space, as the checker walks through it.
struct Walk {
    run: Run,
    states_max: u64,
    left: AtomicU64,
    met: Arc<Met>,
    new: AtomicU64,
    /// What was found is gone through once more, to be told.
    again: AtomicBool,
}

impl Model for Walk {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut setup = Setup::new(&self.run.space);
        (self.run.space.start)(&mut setup);
        vec![setup.world()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // The states that are waiting then are still looked at, but lead no further.
        let far = self.left.fetch_add(1, Ordering::Relaxed) >= self.states_max;
        let again = self.again.load(Ordering::Relaxed);
        if !far || again {
            world.actions(&self.run.space.limits, actions);
        }
        // Each state comes by here once.
        if !again && self.met.note(world) {
            self.new.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.next(&self.run, &action)
    }

    fn properties(&self) -> Vec<Property<Walk>> {
        vec![
            Property::always(properties::ELECTION_SAFETY, |_, world| properties::election_safety(world)),
            Property::always(properties::LOG_MATCHING, |_, world| properties::log_matching(world)),
            Property::always(properties::LEADER_COMPLETENESS, |_, world| properties::leader_completeness(world)),
            Property::always(properties::STATE_MACHINE_SAFETY, |_, world| properties::state_machine_safety(world)),
            Property::always(properties::NOTHING_REFUSED, |_, world: &World| world.refused.is_none()),
            Property::always(properties::NO_PANIC, |_, world: &World| world.panicked.is_none()),
        ]
    }
}

/// Explores `space`.
#[must_use]
pub fn explore(space: &Space, effort: &Effort) -> Report {
    let began = Instant::now();
    let walk = Walk {
        run: Run::new(space),
        states_max: effort.states_max,
        left: AtomicU64::new(0),
        met: Arc::clone(&effort.met),
        new: AtomicU64::new(0),
        again: AtomicBool::new(false),
    };
    let finish = match effort.until {
        Some(property) => HasDiscoveries::AnyOf(BTreeSet::from([property])),
        None => HasDiscoveries::AnyFailures,
    };
    let checker = walk.checker().threads(effort.threads).finish_when(finish).spawn_bfs().join();
    let (took, walk) = (began.elapsed(), checker.model());
    let seen = EVENTS.map(|event| (event, walk.run.seen.times(event))).to_vec();
    walk.again.store(true, Ordering::Relaxed);
    let told = |path: Path<World, Action>| path.into_actions().iter().map(|action| format!("{action:?}")).collect();
    let violations: Vec<_> = checker.discoveries().into_iter().map(|(name, path)| (name, told(path))).collect();
    Report {
        space: space.name,
        states: checker.unique_state_count() as u64,
        new: walk.new.load(Ordering::Relaxed),
        transitions: checker.state_count() as u64,
        depth: checker.max_depth(),
        complete: violations.is_empty() && walk.left.load(Ordering::Relaxed) <= effort.states_max,
        seen,
        violations,
        took,
    }
}

impl Report {
    /// What the space must show at least once, and did not.
    pub fn missed<'a>(&'a self, space: &'a Space) -> impl Iterator<Item = Event> + 'a {
        let never = |event: &Event| self.seen.iter().any(|(seen, times)| seen == event && *times == 0);
        space.reaches.iter().copied().filter(never)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.complete { "all there are" } else { "the nearest" };
        let Report { space, states, new, transitions, depth, .. } = self;
        let seconds = self.took.as_secs();
        write!(
            formatter,
            "{space:<16} {states:>9} states ({extent}), {new:>9} of them new, {transitions:>10} transitions, "
        )?;
        write!(formatter, "depth {depth:>2}, {seconds:>3} s; seen:")?;
        for (event, times) in self.seen.iter().filter(|(_, times)| *times > 0) {
            write!(formatter, " {event:?} {times}")?;
        }
        for (property, path) in &self.violations {
            write!(formatter, "\n  VIOLATED: {property}\n    {}", path.join("\n    "))?;
        }
        Ok(())
    }
}
