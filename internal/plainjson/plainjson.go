// Package plainjson reads and writes the texts and the numbers that nearly all JSON of this field consists of, at a
// fraction of the cost of a general encoder or decoder: texts of which each character stands for itself, and whole
// numbers. What is not of that kind it leaves to the general one, which judges it.
package plainjson

import "strconv"

// maxDigits is how many digits every number has that fits into 63 bits.
const maxDigits = 18

// stands says whether a character stands for itself in a JSON text: it is printable ASCII and no escape.
func stands(c byte) bool { return c >= ' ' && c <= '~' && c != '"' && c != '\\' }

// AppendText writes a text. It is not ok when a character does not stand for itself; b is as it was then.
func AppendText(b []byte, text string) (_ []byte, ok bool) {
	for i := range len(text) {
		if !stands(text[i]) {
			return b, false
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"'), true
}

// Text reads the text that s begins with, without its quotes.
func Text[T ~string | ~[]byte](s T) (text, rest T, ok bool) {
	for i := 1; i < len(s) && s[0] == '"'; i++ {
		switch {
		case s[i] == '"':
			return s[1:i], s[i+1:], true
		case !stands(s[i]):
			return text, rest, false
		}
	}
	return text, rest, false
}

// Digits reads the number that s begins with, if it is whole, has no sign and at most 18 digits.
func Digits[T ~string | ~[]byte](s T) (digits, rest T, ok bool) {
	n := 0
	for ; n < len(s) && '0' <= s[n] && s[n] <= '9'; n++ {
		if n == maxDigits || n == 1 && s[0] == '0' {
			return digits, rest, false
		}
	}
	return s[:n], s[n:], n > 0
}

// Number is the value of what [Digits] reads.
func Number[T ~string | ~[]byte](s T) (value int64, rest T, ok bool) {
	digits, rest, ok := Digits(s)
	if ok {
		value, _ = strconv.ParseInt(string(digits), 10, 64)
	}
	return value, rest, ok
}
