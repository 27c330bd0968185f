//! The rows of a query as a file of Apache Parquet, which DuckDB, Spark, pandas and their like read.
//!
//! SQLite has a type for each value, Parquet one for each column. A column of whole numbers is `INT64`; one with
//! others among them `DOUBLE`; texts are `STRING`, blobs `BYTE_ARRAY`. What mixes kinds is refused, since nobody
//! could say what is meant: CAST says it. Each column may be null.

use std::collections::BTreeSet;
use std::sync::Arc;

use mente_broker::{Error, Kind, Result};
use mente_engine::limits;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use rusqlite::types::ValueRef;

use crate::projection::query::Sink;

/// Rows that a part of the file holds.
const ROWS_PER_GROUP: usize = 100_000;
/// Whole numbers up to there are the same as a DOUBLE.
const EXACT_MAX: u64 = 1 << 53;
/// What a value takes beside its bytes.
const VALUE_BYTES: usize = 32;

/// Gathers the rows of a query by column.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    rows: usize,
    /// As many as were asked for; without it all of them must fit.
    limit: Option<usize>,
    left_bytes: usize,
}

#[derive(Debug)]
struct Column {
    name: String,
    values: Values,
    /// By row, whether it has a value.
    is_there: Vec<bool>,
}

#[derive(Debug)]
enum Values {
    /// None yet.
    Nothing,
    Integers(Vec<i64>),
    Reals(Vec<f64>),
    Texts(Vec<ByteArray>),
    Blobs(Vec<ByteArray>),
}

impl Columns {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            columns: Vec::new(),
            rows: 0,
            limit,
            left_bytes: limits::EXPORT_BYTES,
        }
    }

    /// The file.
    pub(crate) fn write(self) -> Result<Vec<u8>> {
        self.check_names()?;
        self.written()
            .map_err(|error| Error::new(Kind::Internal, format!("writing Parquet: {error}")))
    }

    /// Readers ask for a column by its name.
    fn check_names(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for column in &self.columns {
            if !names.insert(column.name.to_ascii_lowercase()) {
                let name = &column.name;
                let message =
                    format!("two columns are named {name:?}: give one another name by AS");
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }

    fn written(&self) -> Result<Vec<u8>, ParquetError> {
        let fields: Result<Vec<_>, _> = self.columns.iter().map(Column::field).collect();
        let schema = Type::group_type_builder("rows")
            .with_fields(fields?)
            .build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
        let properties = Arc::new(properties.build());
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties)?;
        let mut cursors = vec![0; self.columns.len()];
        for from in (0..self.rows).step_by(ROWS_PER_GROUP) {
            let rows = from..(from + ROWS_PER_GROUP).min(self.rows);
            let mut group = writer.next_row_group()?;
            for (column, cursor) in self.columns.iter().zip(&mut cursors) {
                let is_there = &column.is_there[rows.clone()];
                let levels: Vec<i16> = is_there.iter().map(|is| i16::from(*is)).collect();
                let end = *cursor + is_there.iter().filter(|is| **is).count();
                let Some(mut next) = group.next_column()? else {
                    break;
                };
                let some = *cursor..end;
                match &column.values {
                    Values::Nothing => {
                        let writer = next.typed::<ByteArrayType>();
                        writer.write_batch(&[], Some(&levels), None)?
                    }
                    Values::Integers(values) => {
                        let writer = next.typed::<Int64Type>();
                        writer.write_batch(&values[some], Some(&levels), None)?
                    }
                    Values::Reals(values) => {
                        let writer = next.typed::<DoubleType>();
                        writer.write_batch(&values[some], Some(&levels), None)?
                    }
                    Values::Texts(values) | Values::Blobs(values) => {
                        let writer = next.typed::<ByteArrayType>();
                        writer.write_batch(&values[some], Some(&levels), None)?
                    }
                };
                next.close()?;
                *cursor = end;
            }
            group.close()?;
        }
        writer.into_inner()
    }
}

impl Sink for Columns {
    fn columns(&mut self, names: Vec<String>) {
        *self = Self::new(self.limit);
        let column = |name| Column {
            name,
            values: Values::Nothing,
            is_there: Vec::new(),
        };
        self.columns = names.into_iter().map(column).collect();
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<bool> {
        if self.rows == self.max_rows() {
            return match self.limit {
                Some(_) => Ok(false),
                None => Err(too_much(&format!("{} rows", limits::EXPORT_ROWS))),
            };
        }
        let size: usize = values.iter().map(size_bytes).sum();
        let left = self.left_bytes.checked_sub(size);
        self.left_bytes =
            left.ok_or_else(|| too_much(&format!("{} bytes", limits::EXPORT_BYTES)))?;
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(*value)?;
        }
        self.rows += 1;
        Ok(true)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn max_rows(&self) -> usize {
        self.limit
            .unwrap_or(limits::EXPORT_ROWS)
            .min(limits::EXPORT_ROWS)
    }
}

impl Column {
    fn field(&self) -> Result<Arc<Type>, ParquetError> {
        let (physical, logical) = match &self.values {
            Values::Integers(_) => (Physical::INT64, None),
            Values::Reals(_) => (Physical::DOUBLE, None),
            Values::Nothing | Values::Texts(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Values::Blobs(_) => (Physical::BYTE_ARRAY, None),
        };
        let field = Type::primitive_type_builder(&self.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        field.build().map(Arc::new)
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<()> {
        self.is_there.push(!matches!(value, ValueRef::Null));
        match (&mut self.values, value) {
            (_, ValueRef::Null) => {}
            (Values::Nothing, ValueRef::Integer(value)) => {
                self.values = Values::Integers(vec![value])
            }
            (Values::Nothing, ValueRef::Real(value)) => self.values = Values::Reals(vec![value]),
            (Values::Nothing, ValueRef::Text(text)) => {
                self.values = Values::Texts(vec![of_text(text)])
            }
            (Values::Nothing, ValueRef::Blob(blob)) => {
                self.values = Values::Blobs(vec![blob.to_vec().into()])
            }
            (Values::Integers(values), ValueRef::Integer(value)) => values.push(value),
            (Values::Integers(values), ValueRef::Real(value)) => {
                let reals: Option<Vec<f64>> = values.iter().copied().map(exact).collect();
                let mut reals = reals
                    .ok_or_else(|| self.mixes("whole numbers of more than 53 bits and others"))?;
                reals.push(value);
                self.values = Values::Reals(reals);
            }
            (Values::Reals(values), ValueRef::Real(value)) => values.push(value),
            (Values::Reals(values), ValueRef::Integer(value)) => match exact(value) {
                Some(value) => values.push(value),
                None => return Err(self.mixes("whole numbers of more than 53 bits and others")),
            },
            (Values::Texts(values), ValueRef::Text(text)) => values.push(of_text(text)),
            (Values::Blobs(values), ValueRef::Blob(blob)) => values.push(blob.to_vec().into()),
            _ => return Err(self.mixes("numbers, texts or blobs")),
        }
        Ok(())
    }

    fn mixes(&self, what: &str) -> Error {
        Error::invalid(format!(
            "column {:?} mixes {what}, and a column of Parquet has one type: say which by CAST",
            self.name
        ))
    }
}

/// The bytes of SQLite need not be UTF-8, those of Parquet must.
fn of_text(text: &[u8]) -> ByteArray {
    String::from_utf8_lossy(text)
        .into_owned()
        .into_bytes()
        .into()
}

fn exact(value: i64) -> Option<f64> {
    (value.unsigned_abs() <= EXACT_MAX).then_some(value as f64)
}

fn size_bytes(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => VALUE_BYTES + bytes.len(),
        _ => VALUE_BYTES,
    }
}

fn too_much(most: &str) -> Error {
    let message = format!(
        "the query: a file holds at most {most}: ask in parts, as by WHERE position BETWEEN …, or say a limit"
    );
    Error::new(Kind::TooLarge, message)
}
