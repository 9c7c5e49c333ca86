//! Arithmetic over the columns of a row.

/// Longest formula that is read, in bytes: descriptions come from plugins and from run directories of others.
const MAX_LENGTH: usize = 1000;

/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// A formula over the columns of a row: numbers, column names, `+`, `-`, `*`, `/` and parentheses.
///
/// A column name that is not a word is put in single quotes; in those one `*` stands for any text, and the formula
/// counts for every column that matches. `host.cpus` and `host.memory_bytes` stand for what is known of the host. `0 / 0`
/// is 0, so that a ratio of two idle counters is; any other division by zero has no value.
///
/// ```
/// use autoprof_core::quantity::Formula;
///
/// let busy = Formula::parse("100 - idle_percent - iowait_percent")?;
/// assert_eq!(busy.names(), ["idle_percent", "iowait_percent"]);
/// assert_eq!(busy.eval(&[40.0, 10.0]), 50.0);
/// # Ok::<(), autoprof_core::quantity::FormulaError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    /// In reverse Polish notation.
    steps: Vec<Step>,
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Number(f64),
    Name(usize),
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A formula that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormulaError {
    /// It has more than 1000 bytes.
    #[error("the formula is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// It is nested too deeply.
    #[error("the formula is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// Something else was expected.
    #[error("the formula {formula:?} has {found} where {expected} is expected")]
    Unexpected {
        /// The formula.
        formula: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
}

impl Formula {
    /// Reads a formula.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        if text.len() > MAX_LENGTH {
            return Err(FormulaError::TooLong);
        }
        let mut parser = Parser { text, rest: text, depth: 0, formula: Self { steps: Vec::new(), names: Vec::new() } };
        parser.sum()?;
        parser.blank();
        if !parser.rest.is_empty() {
            return Err(parser.unexpected("an operator or the end"));
        }
        Ok(parser.formula)
    }

    /// The columns that it needs, each once.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Its value where the columns of [`Self::names`] have these; NaN: it has none.
    #[must_use]
    pub fn eval(&self, values: &[f64]) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(8);
        for step in &self.steps {
            let value = match *step {
                Step::Number(number) => number,
                Step::Name(at) => values.get(at).copied().unwrap_or(f64::NAN),
                Step::Negate => -stack.pop().unwrap_or(f64::NAN),
                Step::Add | Step::Subtract | Step::Multiply | Step::Divide => {
                    let (b, a) = (stack.pop().unwrap_or(f64::NAN), stack.pop().unwrap_or(f64::NAN));
                    match step {
                        Step::Add => a + b,
                        Step::Subtract => a - b,
                        Step::Multiply => a * b,
                        _ if a == 0.0 && b == 0.0 => 0.0,
                        _ => a / b,
                    }
                }
            };
            stack.push(value);
        }
        stack.pop().filter(|value| value.is_finite()).unwrap_or(f64::NAN)
    }
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
    depth: usize,
    formula: Formula,
}

impl Parser<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, sign: char) -> bool {
        self.blank();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn unexpected(&self, expected: &'static str) -> FormulaError {
        let found = self.rest.chars().next().map_or("the end".to_owned(), |c| format!("{c:?}"));
        FormulaError::Unexpected { formula: self.text.to_owned(), found, expected }
    }

    fn sum(&mut self) -> Result<(), FormulaError> {
        self.product()?;
        loop {
            let step = match () {
                () if self.take('+') => Step::Add,
                () if self.take('-') => Step::Subtract,
                () => return Ok(()),
            };
            self.product()?;
            self.formula.steps.push(step);
        }
    }

    fn product(&mut self) -> Result<(), FormulaError> {
        self.factor()?;
        loop {
            let step = match () {
                () if self.take('*') => Step::Multiply,
                () if self.take('/') => Step::Divide,
                () => return Ok(()),
            };
            self.factor()?;
            self.formula.steps.push(step);
        }
    }

    fn factor(&mut self) -> Result<(), FormulaError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FormulaError::TooDeep);
        }
        if self.take('-') {
            self.factor()?;
            self.formula.steps.push(Step::Negate);
        } else if self.take('(') {
            self.sum()?;
            if !self.take(')') {
                return Err(self.unexpected("a closing parenthesis"));
            }
        } else if self.take('\'') {
            let Some((name, rest)) = self.rest.split_once('\'').filter(|(name, _)| !name.is_empty()) else {
                return Err(self.unexpected("a column name and a closing quote"));
            };
            self.rest = rest;
            self.name(name);
        } else {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            match word.chars().next() {
                Some('0'..='9') => {
                    let Ok(number) = word.parse() else { return Err(self.unexpected("a number")) };
                    self.formula.steps.push(Step::Number(number));
                }
                Some(c) if c != '.' => self.name(word),
                _ => return Err(self.unexpected("a number or a column name")),
            }
            self.rest = rest;
        }
        self.depth -= 1;
        Ok(())
    }

    fn name(&mut self, name: &str) {
        let names = &mut self.formula.names;
        let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        self.formula.steps.push(Step::Name(at));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eval(text: &str, values: &[f64]) -> f64 {
        Formula::parse(text).unwrap().eval(values)
    }

    #[test]
    fn formulas_follow_the_rules_of_arithmetic() {
        assert_eq!(eval("1 + 2 * 3 - 4 / 2", &[]), 5.0);
        assert_eq!(eval("(1+2)*-3", &[]), -9.0);
        assert_eq!(eval("100 * (1 - available_kib / total_kib)", &[250.0, 1000.0]), 75.0);
        assert_eq!(eval("a - b - a", &[5.0, 2.0]), -2.0);
        assert_eq!(eval("1024 * 'odd name-1'", &[2.0]), 2048.0);
        assert_eq!(Formula::parse("'*_per_s' / host.cpus").unwrap().names(), ["*_per_s", "host.cpus"]);
    }

    #[test]
    fn only_nothing_of_nothing_is_zero() {
        assert_eq!(eval("a / b", &[0.0, 0.0]), 0.0);
        assert!(eval("a / b", &[1.0, 0.0]).is_nan());
        assert!(eval("a + b", &[1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn a_formula_that_cannot_be_read_says_where() {
        let problem = |text: &str| Formula::parse(text).unwrap_err().to_string();
        assert_eq!(problem("100 - "), "the formula \"100 - \" has the end where a number or a column name is expected");
        assert!(problem("(a").contains("a closing parenthesis"));
        assert!(problem("a b").contains("'b' where an operator or the end"));
        assert!(problem("1.2.3").contains("a number"));
        assert_eq!(Formula::parse(&"(".repeat(40)), Err(FormulaError::TooDeep));
        assert_eq!(Formula::parse(&"1+".repeat(600)), Err(FormulaError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(text in "[a-z0-9.+*/() '-]{0,40}|.{0,20}", values in prop::collection::vec(any::<f64>(), 0..4)) {
            if let Ok(formula) = Formula::parse(&text) {
                let value = formula.eval(&values);
                prop_assert!(value.is_nan() || value.is_finite());
            }
        }
    }
}
