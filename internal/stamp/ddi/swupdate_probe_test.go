package ddi_test
import ("testing";"os";"fmt";"time";"net/http")
func TestProbe(t *testing.T){
 if os.Getenv("PROBE")=="" {t.Skip()}
 r:=newRig(t); r.put("dev-0001","default")
 b,_:=os.ReadFile(os.Getenv("PROBE"))
 r.engine.order("dev-0001",7,"1.1.0",b,nil)
 fmt.Println(r.server.URL)
 os.WriteFile("/tmp/ddi-probe/url",[]byte(r.server.URL),0o644)
 old:=r.server.Config.Handler
 r.server.Config.Handler=http.HandlerFunc(func(w http.ResponseWriter,q *http.Request){ fmt.Println(q.Method,q.URL,q.UserAgent(),q.Header.Get("Accept")); old.ServeHTTP(w,q)})
 time.Sleep(30*time.Second)
 for _,x:=range r.engine.reports["dev-0001"]{fmt.Printf("%+v\n",x)}
}
