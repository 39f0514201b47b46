package propertybag_test

import (
	"reflect"
	"testing"

	"github.com/slipway/slipway/internal/propertybag"
)

func TestBagsAsClientsSendThem(t *testing.T) {
	bag := "%24.mid=mid-1&$.cid=cid%201&%24.ct=application%2fjson&a%20b=c%26d%3D%C3%A9&bare&empty="
	all, err := propertybag.Parse(bag)
	if err != nil {
		t.Fatal(err)
	}
	system, application := propertybag.Split(all)
	wantSystem := map[string]string{"messageId": "mid-1", "correlationId": "cid 1", "contentType": "application/json"}
	wantApplication := map[string]string{"a b": "c&d=é", "bare": "", "empty": ""}
	if !reflect.DeepEqual(system, wantSystem) || !reflect.DeepEqual(application, wantApplication) {
		t.Errorf("got %v and %v", system, application)
	}
	if propertybag.Size(all) != len("mid-1")+len("cid 1")+len("application/json")+len("a b")+len("c&d=é")+len("bare")+len("empty") {
		t.Errorf("size %d", propertybag.Size(all))
	}
}

func TestMalformedBags(t *testing.T) {
	for _, bag := range []string{"a=%zz", "%4=x", "=x", "&%"} {
		if _, err := propertybag.Parse(bag); err == nil {
			t.Errorf("%q was accepted", bag)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("%24.mid=1&a=b&c")
	f.Fuzz(func(t *testing.T, bag string) {
		all, err := propertybag.Parse(bag)
		if err != nil {
			return
		}
		again, err := propertybag.Parse(propertybag.Encode(all))
		if err != nil || !reflect.DeepEqual(all, again) {
			t.Errorf("%q: %v became %v, %v", bag, all, again, err)
		}
	})
}
