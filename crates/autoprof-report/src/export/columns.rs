//! Rows of numbers as Parquet: many rows at a time, column by column.
use std::{io::Write, sync::Arc};

use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};

use super::{ExportError, Numbers};

const SCHEMA: &str = "message numbers {
    REQUIRED INT64 time_unix (TIMESTAMP(MICROS,true));
    REQUIRED BYTE_ARRAY host (UTF8);
    REQUIRED BYTE_ARRAY profiler (UTF8);
    REQUIRED BYTE_ARRAY table (UTF8);
    REQUIRED BYTE_ARRAY what (UTF8);
    REQUIRED BYTE_ARRAY column (UTF8);
    REQUIRED DOUBLE value;
}";

/// Rows of a group: what is held in memory until it is written.
const GROUP: usize = 256 * 1024;

/// A file that rows are written to.
pub(super) struct Rows<'a> {
    writer: SerializedFileWriter<&'a mut (dyn Write + Send)>,
    times: Vec<i64>,
    texts: [Vec<ByteArray>; 5],
    values: Vec<f64>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Result<Self, ExportError> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Self { writer, times: Vec::new(), texts: Default::default(), values: Vec::new() })
    }

    pub(super) fn add(&mut self, numbers: &Numbers<'_>) -> Result<(), ExportError> {
        let texts = [numbers.host, numbers.profiler, numbers.table, numbers.what, numbers.column];
        // Shared by all of these rows.
        let texts = texts.map(|text| ByteArray::from(text.as_bytes().to_vec()));
        for (time, value) in numbers.known() {
            #[expect(clippy::cast_possible_truncation, reason = "instants of this century")]
            self.times.push((time * 1e6).round() as i64);
            for (column, text) in self.texts.iter_mut().zip(&texts) {
                column.push(text.clone());
            }
            self.values.push(value);
            if self.times.len() == GROUP {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes the last rows, and what makes it a whole file.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.write()?;
        self.writer.close()?;
        Ok(())
    }

    fn write(&mut self) -> Result<(), ExportError> {
        if self.times.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        column::<Int64Type>(&mut group, &self.times)?;
        for texts in &self.texts {
            column::<ByteArrayType>(&mut group, texts)?;
        }
        column::<DoubleType>(&mut group, &self.values)?;
        group.close()?;
        self.times.clear();
        self.texts.iter_mut().for_each(Vec::clear);
        self.values.clear();
        Ok(())
    }
}

/// Writes the next column of a group.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut (dyn Write + Send)>,
    values: &[T::T],
) -> Result<(), ExportError> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::RowAccessor as _,
    };

    use super::*;

    #[test]
    fn what_is_written_is_read_back_row_by_row() {
        let mut file = Vec::new();
        let mut rows = Rows::new(&mut file).unwrap();
        let (times, values) = ([1.5, 2.5, 3.5], [7.0, f64::NAN, -0.25]);
        for column in ["user_percent", "idle_percent"] {
            let numbers = Numbers {
                host: "web01",
                profiler: "proc",
                table: "cpu.csv",
                what: "0",
                column,
                times: &times,
                values: &values,
            };
            rows.add(&numbers).unwrap();
        }
        rows.finish().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let read: Vec<(i64, &str, &str, f64)> = rows
            .iter()
            .map(|row| {
                let time = row.get_timestamp_micros(0).unwrap();
                (
                    time,
                    row.get_string(1).unwrap().as_str(),
                    row.get_string(5).unwrap().as_str(),
                    row.get_double(6).unwrap(),
                )
            })
            .collect();
        let expected = [
            (1_500_000, "web01", "user_percent", 7.0),
            (3_500_000, "web01", "user_percent", -0.25),
            (1_500_000, "web01", "idle_percent", 7.0),
            (3_500_000, "web01", "idle_percent", -0.25),
        ];
        assert_eq!(read, expected);
    }
}
