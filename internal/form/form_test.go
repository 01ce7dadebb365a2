package form_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/rule"
)

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/introspect?token=of-the-url", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

func TestRead(t *testing.T) {
	f, err := form.Read(post("token=a%2Bb+c&&hint=&empty"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Get("token") != "a+b c" || f.Len() != 1 {
		t.Errorf("%+v", f)
	}
}

// Parameters without a value are as if they had been left out, wherever they stand. Only resource may
// have several values.
func TestParametersThatRepeat(t *testing.T) {
	for body, want := range map[string]string{
		"scope=&scope=iSHARE":                       "iSHARE",
		"scope=iSHARE&scope=&scope":                 "iSHARE",
		"sc%6Fpe&scope=iSHARE":                      "iSHARE",
		"scope=&scope=":                             "",
		"scope=iSHARE&resource=a&resource=b":        "iSHARE",
		"resource=a&scope=iSHARE&resource=a":        "iSHARE",
		"=&=&scope=iSHARE":                          "iSHARE",
		strings.Repeat("a=&", 99) + "scope=iSHARE":  "iSHARE",
		"scope=iSHARE" + strings.Repeat("&", 1<<10): "iSHARE",
	} {
		f, err := form.Parse([]byte(body))
		if err != nil || f.Get("scope") != want {
			t.Errorf("%.60s: %v, %v", body, f, err)
		}
	}
	for body, reason := range map[string]*rule.Rule{
		"scope=iSHARE&scope=iSHARE":                 rule.RequestDuplicateParameter,
		"scope=iSHARE&scope=&scope=iSHARE":          rule.RequestDuplicateParameter,
		"audience=a&audience=b":                     rule.RequestDuplicateParameter,
		"Resource=a&Resource=b":                     rule.RequestDuplicateParameter,
		strings.Repeat("a=&", 100) + "scope=iSHARE": rule.RequestMalformed,
		strings.Repeat("resource=a&", 101):          rule.RequestMalformed,
		"scope=iSHARE&%zz=":                         rule.RequestMalformed,
		"scope=iSHARE&%ff=":                         rule.RequestMalformed,
	} {
		f, err := form.Parse([]byte(body))
		if rejection, ok := errors.AsType[*rule.Rejection](err); !ok || rejection.Rule != reason || f != nil {
			t.Errorf("%.60s: %v, %v; want %s", body, f, err, reason.ID)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	with := func(change func(*http.Request)) *http.Request {
		r := post("token=a")
		change(r)
		return r
	}
	var many strings.Builder
	for i := range 101 {
		many.WriteString("p" + strconv.Itoa(i) + "=&")
	}
	for name, c := range map[string]struct {
		r    *http.Request
		rule *rule.Rule
	}{
		"method":          {with(func(r *http.Request) { r.Method = http.MethodGet }), rule.RequestMethod},
		"no media type":   {with(func(r *http.Request) { r.Header.Del("Content-Type") }), rule.RequestMediaType},
		"two media types": {with(func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }), rule.RequestMediaType},
		"JSON":            {with(func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }), rule.RequestMediaType},
		"compressed":      {with(func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), rule.RequestMediaType},
		"size":            {post("token=" + strings.Repeat("a", form.MaxBody)), rule.RequestSize},
		"size, unknown before": {with(func(r *http.Request) {
			r.Body, r.ContentLength = http.NoBody, -1
			r.Body = post(strings.Repeat("a", form.MaxBody+1)).Body
		}), rule.RequestSize},
		"cut off, of unknown length": {with(func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(io.MultiReader(r.Body, iotest.ErrReader(io.ErrUnexpectedEOF))), -1
		}), rule.RequestMalformed},
		"shorter than told": {with(func(r *http.Request) { r.ContentLength = 100 }), rule.RequestMalformed},
		"duplicate":         {post("token=a&token=a"), rule.RequestDuplicateParameter},
		"duplicate, spelt":  {post("token=a&t%6Fken=b"), rule.RequestDuplicateParameter},
		"broken name":       {post("%zz=a"), rule.RequestMalformed},
		"broken value":      {post("token=%2"), rule.RequestMalformed},
		"not UTF-8":         {post("token=%ff"), rule.RequestMalformed},
		"too many":          {post(many.String()), rule.RequestMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := form.Read(c.r)
			var rejection *rule.Rejection
			if !errors.As(err, &rejection) || rejection.Rule != c.rule || f != nil {
				t.Errorf("%v, %v; want %s", f, err, c.rule.ID)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "token=a", "token=a&token=b", "%ff=%zz&;&=", "a=%2B+&a%3D=", "a=&a=b&a", "resource=a&resource=b", strings.Repeat("&", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		parsed, err := form.Parse([]byte(body))
		if err != nil {
			if rejection := (*rule.Rejection)(nil); !errors.As(err, &rejection) || parsed != nil {
				t.Errorf("%v, %v", parsed, err)
			}
			return
		}
		if parsed.Len() > 100 {
			t.Errorf("%d parameters", parsed.Len())
		}
		for pair := range strings.SplitSeq(body, "&") {
			rawName, rawValue, _ := strings.Cut(pair, "=")
			name, err1 := url.QueryUnescape(rawName)
			value, err2 := url.QueryUnescape(rawValue)
			if err1 != nil || err2 != nil {
				t.Errorf("%q was taken", pair)
			}
			if name != "resource" && value != "" && parsed.Get(name) != value {
				t.Errorf("the value of %q is %q, want %q", name, parsed.Get(name), value)
			}
			if !utf8.ValidString(parsed.Get(name)) {
				t.Errorf("the value of %q is not UTF-8", name)
			}
		}
	})
}

// What is refused is what the standard library refuses, and what duplicates and bounds forbid.
func TestParseAsTheStandardLibrary(t *testing.T) {
	for _, text := range []string{"a", "%", "%2", "%41", "%4g", "%%41", "%25%41", "a%2Bb+c", "+", "%2541", "%c3%a9", "x%00y", strings.Repeat("%41", 5000)} {
		want, bad := url.QueryUnescape(text)
		f, err := form.Parse([]byte("a=" + text))
		if (err != nil) != (bad != nil) || err == nil && f.Get("a") != want {
			t.Errorf("%.30s: %v, want %q, %v", text, err, want, bad)
		}
	}
}

// A buffer goes from one request to another. What one has sent, no later one sees, and a copy outlives the form.
func TestReleasedBuffersHoldNothing(t *testing.T) {
	for range 100 {
		f, err := form.Read(post("secret=" + strings.Repeat("s", 12_000)))
		if err != nil {
			t.Fatal(err)
		}
		view, kept := f.View("secret"), f.Get("secret")
		f.Release()
		if f.View("secret") != "" {
			t.Fatal("a form that was released has a value")
		}
		if strings.Contains(view, "s") {
			t.Fatal("the buffer was not wiped")
		}
		if kept != strings.Repeat("s", 12_000) {
			t.Fatal("the copy has gone with the buffer")
		}
	}
}

// Requests at the same time have buffers of their own, also after refusals: under the race detector, a view that outlives
// its form would be a race with the next request.
func TestBuffersAreNotShared(t *testing.T) {
	var group sync.WaitGroup
	for worker := range 16 {
		group.Go(func() {
			for i := range 200 {
				value := strings.Repeat(string(rune('a'+worker)), 1+(i*997+worker*131)%20_000)
				refused, err := form.Read(post("a=" + value + "&a=" + value))
				if err == nil || refused != nil {
					t.Error("a duplicate was taken")
				}
				f, err := form.Read(post("a=" + value))
				if err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
				if f.View("a") != value {
					t.Errorf("worker %d has read what is not its own", worker)
				}
				f.Release()
			}
		})
	}
	group.Wait()
}

// A body is read whole, whatever its size, in one go or in parts, and never with what another has left behind.
func TestReadSizes(t *testing.T) {
	for _, size := range []int{form.MaxBody, 2, 4<<10 - 1, 4 << 10, 4<<10 + 1, 10_000, form.MaxBody - 1} {
		value := strings.Repeat(string(rune('a'+size%26)), max(0, size-len("a=")))
		for name, split := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "by the byte": iotest.OneByteReader} {
			for _, told := range []int64{int64(size), -1} {
				r := post("a=" + value)
				r.Body, r.ContentLength = io.NopCloser(split(r.Body)), told
				if f, err := form.Read(r); err != nil || f.Get("a") != value {
					t.Errorf("%d bytes, %s, %d told: %d of the value: %v", size, name, told, len(f.Get("a")), err)
				}
			}
		}
	}
}
