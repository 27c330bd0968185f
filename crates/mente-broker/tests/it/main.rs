//! The broker as a door sees it, on one thread, with a clock that only we move.

mod branches;
mod clock;
mod crank;
mod full;
mod inline;
mod messages;
mod nodes;
mod queue_laws;
mod replay;
mod rounds;
mod states;
