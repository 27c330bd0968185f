//! A reducer: a fold that is programmed, in JavaScript.
//!
//! ```json
//! {"javascript": "function reduce(state, event) { state.total = (state.total ?? 0) + event.data.price }"}
//! ```
//! The source declares `reduce`, and what it needs beside it. `state` is an object, at first `{}`; what
//! `reduce` returns is the next state, or `state` as it left it if it returns nothing. `event` is the
//! event as CloudEvents has it in JSON, and where it lies (`facts.rs`). A fold by event type is never
//! mistaken for it: there each type has a list.
//!
//! **Equal events make equal state.** So there is no clock, no chance, no promise and no code from text
//! (`prelude.js`), and nothing goes from one event to the next but the state: the source runs anew for
//! each, what is there beside it is frozen, and the state passes as JSON text. So a fold that goes on
//! from a state that was kept says what a fold from the beginning says. Numbers are JavaScript's: whole
//! ones are exact up to 2^53, and what is no number of JSON becomes null.
//!
//! **Whoever declares a reducer may be wrong, or mean harm.** It is bounded in memory, in stack, and in
//! steps: loops and calls, which are counted and not timed, so that a reducer that is refused is refused
//! again. A time is the second net, for steps that are slow ones.
//!
//! An upcaster (`upcaster.rs`), a decider (`decider.rs`), a projection (`projector.rs`) and a saga (`reactor.rs`) are
//! other programs within the same walls.

mod decider;
mod facts;
mod projector;
mod reactor;
mod upcaster;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mente_engine::{Clock, limits};
use rquickjs::context::{EvalOptions, intrinsic};
use rquickjs::function::IntoArgs;
use rquickjs::{Context, Ctx, Exception, Function, Module, Persistent, Runtime};
use serde_json::{Map, Value};

use crate::broker::StreamEvent;
use crate::error::{Error, Kind, Result};

pub(crate) use decider::Decider;
pub(crate) use facts::text_of;
pub use projector::{Projected, Projector};
pub use reactor::{Reacted, Reactor};
pub(crate) use upcaster::Upcaster;

const PRELUDE: &str = include_str!("javascript/prelude.js");
/// The same walls in words for who wrote something else.
static PRELUDE_OF_UPCASTERS: LazyLock<String> = LazyLock::new(|| spoken_to(Role::Upcast));
static PRELUDE_OF_DECIDERS: LazyLock<String> = LazyLock::new(|| spoken_to(Role::Decide));
static PRELUDE_OF_PROJECTIONS: LazyLock<String> = LazyLock::new(|| spoken_to(Role::Project));
static PRELUDE_OF_SAGAS: LazyLock<String> = LazyLock::new(|| spoken_to(Role::React));
/// What lines of the source are told of; the prelude has another name.
const SOURCE_NAME: &str = "fold.js";
/// Loops and calls between two looks at what a reducer may still do: QuickJS's own number.
const STEPS_PER_LOOK: u64 = 10_000;

/// What a fold in JavaScript may have of the engine: no clock, no proxies, no memory beside the heap.
type Intrinsics = (
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::MapSet,
    intrinsic::Promise,
);

/// The source of a reducer, of bounded size; whether it is one shows when it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script(String);

/// The state between two events: the text of a JSON object, in the order in which the reducer left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(String);

/// Steps that a request has left for its reducer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    steps: u64,
}

/// A compiled reducer. It lives on one thread, and for one page of events: what takes a millisecond to
/// make need not be held while a page is read.
pub(crate) struct Reducer(Program);

/// What a source declares, and so what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Reduce,
    Upcast,
    Decide,
    Project,
    React,
}

/// A compiled source within its bounds.
struct Program {
    meter: Rc<Meter>,
    function: Persistent<Function<'static>>,
    /// Behind what lives in it.
    context: Context,
}

/// Counts what a reducer does. Shared with the handler that QuickJS asks as it goes.
struct Meter {
    role: Role,
    clock: Arc<dyn Clock>,
    deadline: Cell<Duration>,
    event_steps: Cell<u64>,
    request_steps: Cell<u64>,
    stopped: Cell<Option<Stopped>>,
}

#[derive(Clone, Copy, Debug)]
enum Stopped {
    EventSteps,
    RequestSteps,
    Time,
}

impl Script {
    /// The source in a declaration; `None` if that is a fold by event type.
    pub(crate) fn parse(declared: &Map<String, Value>) -> Option<Result<Self>> {
        let Some(Value::String(source)) = declared.get("javascript") else {
            return None;
        };
        if declared.len() > 1 {
            let message =
                "a fold is {\"javascript\": SOURCE} alone, or lists of operations by event type";
            return Some(Err(Error::invalid(message)));
        }
        Some(Self::of(source))
    }

    /// A source on its own.
    pub(crate) fn of(source: &str) -> Result<Self> {
        if source.len() > limits::DEFINITION_BYTES {
            let message = format!(
                "the source has {} bytes, more than the limit of {}",
                source.len(),
                limits::DEFINITION_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        if source.contains('\0') {
            let message = "the source has a character NUL: take it out";
            return Err(Error::invalid(message));
        }
        // A comment for scripts and an expression for modules: what one sees of a source the other does not.
        if source.contains("<!--") {
            let message = "a source holds no <!--, which is a comment to some: put a space into it";
            return Err(Error::invalid(message));
        }
        if let Some(literal) = big_integer(source) {
            let message =
                format!("{literal:?} is a BigInt, of which there is none: use numbers, or text");
            return Err(Error::invalid(message));
        }
        Ok(Self(source.to_owned()))
    }
}

impl Default for Text {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl Text {
    pub(super) fn fields(&self) -> Result<Map<String, Value>> {
        serde_json::from_str(&self.0)
            .map_err(|error| Error::invalid(format!("the state cannot be read: {error}")))
    }

    pub(super) fn of(kept: &str) -> Self {
        Self(kept.to_owned())
    }

    /// A state that did not come from a reducer, within the bounds of those that do.
    pub(super) fn checked(text: String) -> Result<Self> {
        check(&text)?;
        Ok(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Left {
    fn default() -> Self {
        Self {
            steps: limits::REDUCER_REQUEST_STEPS,
        }
    }
}

impl Reducer {
    /// Compiles a source. Refuses one that is no JavaScript, or declares no reducer, with the line.
    pub(super) fn compile(script: &Script, left: Left, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::compile_within(limits::REDUCER_MEMORY_BYTES, script, left, clock)
    }

    fn compile_within(
        memory_bytes: usize,
        script: &Script,
        left: Left,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Program::compile(Role::Reduce, memory_bytes, script, left, clock).map(Self)
    }

    /// Folds one event in. After an error the state is as it was.
    pub(super) fn apply(&self, state: &mut Text, event: &StreamEvent) -> Result<()> {
        let event = facts::text(event)?;
        let steps = limits::REDUCER_EVENT_STEPS;
        let next = self.0.call((state.0.as_str(), event.as_str()), steps);
        let next = next?.ok_or_else(no_object)?;
        self.0.check_is_done()?;
        check(&next)?;
        state.0 = next;
        Ok(())
    }

    pub(super) fn left(&self) -> Left {
        Left {
            steps: self.0.meter.request_steps.get(),
        }
    }
}

impl Role {
    /// The function that a source declares.
    fn function(self) -> &'static str {
        match self {
            Self::Reduce => "reduce",
            Self::Upcast => "upcast",
            Self::Decide => "decide",
            Self::Project => "project",
            Self::React => "react",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Reduce => "reducer",
            Self::Upcast => "upcaster",
            Self::Decide => "decider",
            Self::Project => "projection",
            Self::React => "saga",
        }
    }

    fn with_article(self) -> &'static str {
        match self {
            Self::Reduce => "a reducer",
            Self::Upcast => "an upcaster",
            Self::Decide => "a decider",
            Self::Project => "a projection",
            Self::React => "a saga",
        }
    }

    fn prelude(self) -> &'static str {
        match self {
            Self::Reduce => PRELUDE,
            Self::Upcast => &PRELUDE_OF_UPCASTERS,
            Self::Decide => &PRELUDE_OF_DECIDERS,
            Self::Project => &PRELUDE_OF_PROJECTIONS,
            Self::React => &PRELUDE_OF_SAGAS,
        }
    }

    fn has_no_memory(self) -> Error {
        let message = format!(
            "the {} takes more than {} bytes of memory: let it keep less",
            self.word(),
            limits::REDUCER_MEMORY_BYTES
        );
        Error::new(Kind::TooLarge, message)
    }
}

impl Program {
    fn compile(
        role: Role,
        memory_bytes: usize,
        script: &Script,
        left: Left,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let no_memory = |_| role.has_no_memory();
        let deadline = clock.now().monotone + Duration::from_millis(limits::REDUCER_PAGE_MS);
        let meter = Rc::new(Meter {
            role,
            clock,
            deadline: Cell::new(deadline),
            event_steps: Cell::new(limits::REDUCER_EVENT_STEPS),
            request_steps: Cell::new(left.steps),
            stopped: Cell::new(None),
        });
        let runtime = Runtime::new().map_err(no_memory)?;
        runtime.set_max_stack_size(limits::REDUCER_STACK_BYTES);
        let handler = Rc::clone(&meter);
        runtime.set_interrupt_handler(Some(Box::new(move || handler.look())));
        let context = Context::custom::<Intrinsics>(&runtime).map_err(no_memory)?;
        let prepare = context.with(|ctx| {
            let prepare = prelude(&ctx, role).map_err(|error| thrown(&ctx, &meter, &error));
            prepare.map(|prepare| Persistent::save(&ctx, prepare))
        })?;
        // Where memory runs out while a context is made, QuickJS ends the process: so its own part, less
        // than a megabyte, comes before there is a limit.
        runtime.set_memory_limit(memory_bytes);
        let function = context.with(|ctx| {
            let prepare = prepare.restore(&ctx);
            let made = prepare.and_then(|prepare| declared(&ctx, &prepare, role, &script.0));
            let made = made.map_err(|error| thrown(&ctx, &meter, &error));
            made.map(|function| Persistent::save(&ctx, function))
        })?;
        Ok(Self {
            meter,
            function,
            context,
        })
    }

    /// From texts to a text, within so many steps.
    fn call<A: for<'js> IntoArgs<'js>>(&self, arguments: A, steps: u64) -> Result<Option<String>> {
        self.meter.event_steps.set(steps);
        self.context.with(|ctx| {
            let function = self.function.clone().restore(&ctx);
            let told = function.and_then(|function| function.call(arguments));
            told.map_err(|error| thrown(&ctx, &self.meter, &error))
        })
    }

    /// What awaits something would be done with it at another event, or never.
    fn check_is_done(&self) -> Result<()> {
        if self.context.runtime().is_job_pending() {
            let role = self.meter.role.with_article();
            let message = format!("{role} has no later: no promises, no async");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

impl Meter {
    /// Whether the reducer is to stop. What stopped once is not let go on.
    fn look(&self) -> bool {
        let less = |steps: &Cell<u64>| {
            steps.set(steps.get().saturating_sub(STEPS_PER_LOOK));
            steps.get() == 0
        };
        let (event, request) = (less(&self.event_steps), less(&self.request_steps));
        let stopped = match (event, request) {
            (true, _) => Some(Stopped::EventSteps),
            (_, true) => Some(Stopped::RequestSteps),
            _ if self.clock.now().monotone >= self.deadline.get() => Some(Stopped::Time),
            _ => None,
        };
        if self.stopped.get().is_none() {
            self.stopped.set(stopped);
        }
        self.stopped.get().is_some()
    }
}

fn spoken_to(role: Role) -> String {
    let spoken = PRELUDE.replace("a reducer", role.with_article());
    spoken.replace("the reducer", &format!("the {}", role.word()))
}

fn named(name: &str) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.filename = Some(name.to_owned());
    options
}

/// What makes a program of a source.
fn prelude<'js>(ctx: &Ctx<'js>, role: Role) -> rquickjs::Result<Function<'js>> {
    ctx.eval_with_options(role.prelude(), named("mente"))
}

/// The function from texts, of a state and of an event or a command or of an event alone, to the text of what comes of it.
fn declared<'js>(
    ctx: &Ctx<'js>,
    prepare: &Function<'js>,
    role: Role,
    source: &str,
) -> rquickjs::Result<Function<'js>> {
    // What is whole by itself cannot end the function that it is put into.
    Module::declare(ctx.clone(), SOURCE_NAME, source)?;
    let name = role.function();
    let wrapped = format!(
        "(function () {{ \"use strict\"; {source}\n; return typeof {name} === \"undefined\" ? undefined : {name}; }})"
    );
    let make: Function<'_> = ctx.eval_with_options(wrapped, named(SOURCE_NAME))?;
    prepare.call((make, name))
}

/// What went wrong, in words for whoever declared the reducer.
fn thrown(ctx: &Ctx<'_>, meter: &Meter, error: &rquickjs::Error) -> Error {
    let too_much = |message: String| Error::new(Kind::TooLarge, message);
    let word = meter.role.word();
    match meter.stopped.get() {
        Some(Stopped::EventSteps) => {
            return too_much(format!(
                "the {word} went on for {} steps and was stopped: look for a loop that does not end",
                limits::REDUCER_EVENT_STEPS
            ));
        }
        Some(Stopped::RequestSteps) => {
            return too_much(format!(
                "the {word} took {} steps for the events so far and was stopped: let it do less, or ask for an earlier revision",
                limits::REDUCER_REQUEST_STEPS
            ));
        }
        Some(Stopped::Time) => {
            let of = match meter.role {
                Role::Reduce => "a page of events",
                Role::Upcast | Role::Project | Role::React => "one event",
                Role::Decide => "one command",
            };
            let error = too_much(format!(
                "the {word} took more than {} ms for {of} and was stopped: let it do less",
                limits::REDUCER_PAGE_MS
            ));
            return match meter.role {
                Role::Reduce | Role::Decide => error,
                // The machine may have stood still: what it says of the event is no verdict.
                Role::Upcast | Role::Project | Role::React => {
                    Error::new(Kind::Throttled, error.message)
                }
            };
        }
        None => {}
    }
    if !error.is_exception() {
        return Error::invalid(format!("the state cannot be kept: {error}"));
    }
    let value = ctx.catch();
    let Some(exception) = value.clone().into_object().and_then(Exception::from_object) else {
        let text = value.as_string().and_then(|text| text.to_string().ok());
        return match text {
            Some(text) => Error::invalid(format!("the {word} threw {:?}", short(&text))),
            // Without memory there is none for the error either.
            None if value.is_null() => too_much(format!(
                "the {word} threw null, as it does too when its {} bytes of memory are full",
                limits::REDUCER_MEMORY_BYTES
            )),
            None => Error::invalid(format!("the {word} threw something that is no Error")),
        };
    };
    let message = exception.message().unwrap_or_default();
    match message.as_str() {
        "out of memory" | "string too long" => meter.role.has_no_memory(),
        "Maximum call stack size exceeded" => too_much(format!(
            "the {word} calls itself deeper than its stack of {} bytes: let it end earlier",
            limits::REDUCER_STACK_BYTES
        )),
        message => {
            let name = exception.as_object().get::<_, Option<String>>("name");
            let name = name.ok().flatten().unwrap_or_else(|| "Error".to_owned());
            let stack = exception.stack().unwrap_or_default();
            let line = line(&stack).map_or(String::new(), |line| format!(" (line {line})"));
            let message = format!("{name}: {message}");
            Error::invalid(format!("{}{line}", short(&message)))
        }
    }
}

fn no_object() -> Error {
    Error::invalid("the state is no object of JSON: let it have no toJSON")
}

fn short(text: &str) -> String {
    text.chars().take(limits::THROWN_CHARS).collect()
}

/// The innermost line of the source in a stack such as `    at reduce (fold.js:3:5)`.
fn line(stack: &str) -> Option<u32> {
    let (_, behind) = stack.split_once(&format!("{SOURCE_NAME}:"))?;
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Holds the text of a state to the bounds that every state has.
fn check(text: &str) -> Result<()> {
    if !text.starts_with('{') {
        return Err(no_object());
    }
    if text.len() > limits::STATE_BYTES {
        let message = format!(
            "the state has {} bytes, more than the limit of {}: declare a fold that keeps less",
            text.len(),
            limits::STATE_BYTES
        );
        return Err(Error::new(Kind::TooLarge, message));
    }
    let (mut depth, mut deepest, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => {
                is_escaped = false;
                // Whole characters stand for themselves: what is escaped so is half of one.
                if text.as_bytes()[at..].starts_with(b"ud") {
                    let message = "the state has half a character in a text: cut it elsewhere";
                    return Err(Error::invalid(message));
                }
            }
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if deepest > limits::NESTING_DEPTH {
        let message = format!(
            "the state would nest deeper than {} levels: declare a fold that takes less in",
            limits::NESTING_DEPTH
        );
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(())
}

/// A literal such as `10n`, wherever it stands, in comments too: QuickJS cannot be told to have none.
fn big_integer(source: &str) -> Option<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    source
        .split(|c| !is_name(c))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with('n'))
}

#[cfg(test)]
mod tests;
