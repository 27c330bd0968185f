//! What `LIKE` compares with: `%` is any text, `_` any one character, and behind the escape character each is itself.

use super::EvaluationError;
use super::expression::{Expression, Likeness};
use super::value::{Truth, Value};

/// Longest pattern; one that a message brings along is no longer than one that is written.
const PATTERN_CHARS: usize = super::EXPRESSION_CHARS;

/// What lies between the `%` of a pattern, one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    /// With some `_`, which are `None`.
    Mixed(Vec<Option<char>>),
}

impl Pattern {
    pub(super) fn new(text: &str, escape: Option<char>) -> Result<Self, EvaluationError> {
        if text.chars().count() > PATTERN_CHARS {
            return Err(EvaluationError::Pattern("it is too long"));
        }
        let mut segments = Vec::new();
        let mut segment = Vec::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            if Some(next) == escape {
                let literal = rest.next();
                segment.push(Some(literal.ok_or(EvaluationError::Pattern(
                    "a character follows the escape character",
                ))?));
            } else if next == '%' {
                segments.push(Segment::new(std::mem::take(&mut segment)));
            } else {
                segment.push((next != '_').then_some(next));
            }
        }
        segments.push(Segment::new(segment));
        Ok(Self { segments })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.segments.split_first() else {
            return text.is_empty();
        };
        let Some(mut at) = first.begins(text) else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return at == text.len();
        };
        // The earliest place for each leaves the most for those behind it.
        for segment in middle {
            match segment.find_end(&text[at..]) {
                Some(end) => at += end,
                None => return false,
            }
        }
        last.ends(&text[at..])
    }
}

impl Segment {
    fn new(chars: Vec<Option<char>>) -> Self {
        match chars.iter().copied().collect() {
            Some(text) => Self::Text(text),
            None => Self::Mixed(chars),
        }
    }

    /// How many bytes it takes at the beginning.
    fn begins(&self, text: &str) -> Option<usize> {
        match self {
            Self::Text(own) => text.starts_with(own.as_str()).then_some(own.len()),
            Self::Mixed(chars) => {
                let mut rest = text.chars();
                let fits = |one: &Option<char>| {
                    rest.next()
                        .is_some_and(|next| one.is_none_or(|c| c == next))
                };
                let all = chars.iter().all(fits);
                all.then(|| text.len() - rest.as_str().len())
            }
        }
    }

    /// Where its first place ends.
    fn find_end(&self, text: &str) -> Option<usize> {
        match self {
            Self::Text(own) => text.find(own.as_str()).map(|at| at + own.len()),
            Self::Mixed(_) => text
                .char_indices()
                .find_map(|(at, _)| self.begins(&text[at..]).map(|taken| at + taken)),
        }
    }

    fn ends(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => text.ends_with(own.as_str()),
            Self::Mixed(chars) => {
                let begin = text.char_indices().rev().nth(chars.len() - 1);
                begin.is_some_and(|(at, _)| self.begins(&text[at..]).is_some())
            }
        }
    }
}

impl Likeness {
    /// An error if constants make a pattern that is none.
    pub(super) fn new(
        pattern: Expression,
        escape: Option<Expression>,
    ) -> Result<Self, EvaluationError> {
        let constant = |part: &Expression| match part {
            Expression::Constant(value) | Expression::Parameter(_, value) => Some(value.clone()),
            _ => None,
        };
        let known = constant(&pattern).zip(match &escape {
            Some(escape) => constant(escape).map(Some),
            None => Some(None),
        });
        let made = match known {
            Some((pattern, escape)) => pattern_of(&pattern, escape.as_ref())?,
            None => None,
        };
        Ok(Self {
            pattern,
            escape,
            made,
        })
    }

    pub(super) fn of(
        &self,
        text: &str,
        compute: impl Fn(&Expression) -> Result<Value<'static>, EvaluationError>,
    ) -> Result<Truth, EvaluationError> {
        if let Some(made) = &self.made {
            return Ok(made.matches(text).into());
        }
        let pattern = compute(&self.pattern)?;
        let escape = self.escape.as_ref().map(compute).transpose()?;
        let made = pattern_of(&pattern, escape.as_ref())?;
        Ok(made.map_or(Truth::Unknown, |made| made.matches(text).into()))
    }
}

/// `None` where a part is unknown.
fn pattern_of(
    pattern: &Value<'_>,
    escape: Option<&Value<'_>>,
) -> Result<Option<Pattern>, EvaluationError> {
    let escape = match escape {
        None => None,
        Some(Value::Null) => return Ok(None),
        Some(Value::Text(text)) => {
            let mut chars = text.chars();
            let one = chars.next().filter(|_| chars.next().is_none());
            Some(one.ok_or(EvaluationError::Pattern("ESCAPE names one character"))?)
        }
        Some(_) => return Err(EvaluationError::Pattern("ESCAPE names one character")),
    };
    match pattern {
        Value::Null => Ok(None),
        Value::Text(text) => Pattern::new(text, escape).map(Some),
        _ => Err(EvaluationError::Pattern("it is a text")),
    }
}
