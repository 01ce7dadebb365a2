package isharetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// An Object is a JSON object that can be written wrong: its members keep their order, and a name may occur twice.
type Object []Member

// A Member is a name with its value: anything that has a JSON form, or [Raw].
type Member struct {
	Name  string
	Value any
}

// Raw is a value as it is to be written, valid JSON or not.
type Raw string

// Get returns the value of the first member with this name, or nil.
func (o Object) Get(name string) any {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// text is the value of a member that is a string, however it was given; empty: it is none.
func (o Object) text(name string) string {
	var s string
	if json.Unmarshal([]byte(jsonOf(o.Get(name))), &s) != nil {
		return ""
	}
	return s
}

// Set replaces the value of the first member with this name, or adds the member behind the others.
func (o *Object) Set(name string, value any) {
	i := slices.IndexFunc(*o, func(m Member) bool { return m.Name == name })
	if i < 0 {
		o.Add(name, value)
		return
	}
	(*o)[i].Value = value
}

// Add adds a member behind the others, whether or not there is one of this name.
func (o *Object) Add(name string, value any) { *o = append(*o, Member{name, value}) }

// Delete removes every member with this name.
func (o *Object) Delete(name string) {
	*o = slices.DeleteFunc(*o, func(m Member) bool { return m.Name == name })
}

// String writes the object without white space. It panics when a value has no JSON form.
func (o Object) String() string {
	members := make([]string, len(o))
	for i, m := range o {
		members[i] = jsonOf(m.Name) + ":" + jsonOf(m.Value)
	}
	return "{" + strings.Join(members, ",") + "}"
}

func jsonOf(value any) string {
	switch v := value.(type) {
	case Raw:
		return string(v)
	case Object:
		return v.String()
	case []any: // in which there may be such values
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = jsonOf(item)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	b, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("isharetest: %T has no JSON form: %v", value, err))
	}
	return string(b)
}
